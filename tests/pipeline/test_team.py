"""The pipeline of a team: runs in a real PostgreSQL, artifacts in a real bucket, data in another, seen in a browser."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from mlflow import MlflowClient

from tests.browser import open_page
from tests.pipeline.conftest import Project, make_project
from tests.pipeline.test_pipeline import round_trip
from tests.services import Team, team
from tests.workflows import step, workflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SECRET = "any-secret-4711"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with team(tmp_path_factory.mktemp("services") / "team") as shared:
        yield shared


@pytest.fixture(scope="module")
def project(shared: Team, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The demo's own DAG, with all that a team has in .env."""
    project = make_project(tmp_path_factory.mktemp("team_project"))
    pipeline = yaml.safe_load((project.folder / "conf/pipeline.yaml").read_text())
    pipeline["dag"] |= {
        "data": "demo",
        "root": "data/generated/demo",
        "generated": ["demo"],
        "tracking": "server",
    }
    project.write("conf/pipeline.yaml", yaml.safe_dump(pipeline, sort_keys=False))
    demo = yaml.safe_load((project.folder / "conf/data/demo.yaml").read_text())
    demo["demo"] |= {"num_products": 300, "num_unlabelled": 30, "image_px": 32}
    project.write("conf/data/demo.yaml", yaml.safe_dump(demo, sort_keys=False))
    lines = {
        "MLFLOW_TRACKING_URI": shared.mlflow.uri,
        "AWS_ACCESS_KEY_ID": "any key # with a hash",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    project.write(".env", "".join(f'{name}="{value}"\r\n' for name, value in lines.items()))
    return project


@pytest.fixture(scope="module")
def output(project: Project, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the nightly job's step says, as it is written there."""
    home = str(tmp_path_factory.mktemp("prefect"))
    (project.folder / ".venv").symlink_to(sys.prefix)
    command = step("nightly/drift/pipeline on the demo catalogue").run
    done = project.run("bash", "-ec", command, PREFECT_HOME=home)
    return done.stdout + done.stderr


def test_runs_are_in_the_database_and_artifacts_in_the_bucket_alone(
    shared: Team, project: Project, output: str
) -> None:
    assert set(project.lock) == {
        "compose",
        "generate@demo",
        "ingest",
        "features",
        "train",
        "evaluate",
        "predict",
    }
    with psycopg.connect(shared.database.url.replace("+psycopg", "")) as connection:
        runs = connection.execute("select run_uuid, status from runs").fetchall()
    [(run_id, status)] = runs
    assert status == "FINISHED"
    keys = shared.keys()
    own = [key for key in keys if run_id in key]
    assert own == keys
    names = {key.split("/artifacts/")[1].split("/")[0] for key in own}
    assert {"bundle", "evaluation", "config.yaml", "dvc.yaml", "dvc.lock"} <= names
    assert not (project.folder / "outputs/mlartifacts").exists()
    assert not (project.folder / "mlruns").exists()
    assert not list(shared.mlflow.folder.rglob("*.safetensors"))


def test_what_the_nightly_job_keeps_is_there(project: Project, output: str) -> None:
    uses = [
        each
        for each in workflow("nightly")["jobs"]["drift"]["steps"]
        if "upload-artifact" in each.get("uses", "")
    ]
    [kept] = [each["with"]["path"].split() for each in uses]
    assert all((project.folder / path).exists() for path in kept), kept


def test_no_secret_is_told(project: Project, output: str) -> None:
    assert SECRET not in output
    for path in project.folder.rglob("*"):
        if path.is_file() and path.name != ".env" and not {".dvc", ".venv"} & set(path.parts):
            assert SECRET.encode() not in path.read_bytes(), path


def test_the_page_shows_the_run(shared: Team, project: Project, output: str) -> None:
    run = sorted((project.folder / "outputs").glob("*/checkpoints/run.json"))[0].parents[1].name
    experiment = MlflowClient(shared.mlflow.uri).get_experiment_by_name("rakuten")
    with open_page(offline=False, width=1400, height=900) as page:
        page.goto(f"{shared.mlflow.uri}/#/experiments/{experiment.experiment_id}/runs")
        page.get_by_text(run).first.wait_for()


def test_push_wipe_pull_gives_the_same_from_s3(shared: Team, project: Project, output: str) -> None:
    shared.bucket.client().create_bucket(Bucket="data")
    project.dvc("remote", "add", "--default", "--force", "--local", "store", "s3://data/dvc")
    project.dvc("remote", "modify", "--local", "store", "endpointurl", shared.bucket.endpoint)
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "any")
    round_trip(project, **keys, AWS_DEFAULT_REGION="us-east-1")
    listed = shared.bucket.client().list_objects_v2(Bucket="data", Prefix="dvc/files/md5/")
    assert listed["KeyCount"] > 20
    shutil.rmtree(project.folder / "data/generated")
    project.dvc("pull", **keys, AWS_DEFAULT_REGION="us-east-1")
    assert (Path(project.folder) / "data/generated/demo/X_train.csv").is_file()
