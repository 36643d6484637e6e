"""The watch as a flow: recorded in MLflow; and a drift alarm that trains and asks the gate, where people said so."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from rakuten.data.preprocess import Product
from rakuten.monitor.record import PredictionRecord
from rakuten.serve.publish import publish
from tests.monitor.traffic import Desk, Trained, answers, blurred
from tests.pipeline.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.acceptance, pytest.mark.timeout(1800)]
OPTIONS = ["data=shop", "window_products=100", "drift.scales=[1]", "evidently_dir=null", "json=true"]


@pytest.fixture(scope="module")
def project(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy, whose pipeline's model is champion, and its blurred traffic in the log, with what the products truly are."""
    folder = tmp_path_factory.mktemp("watched") / "project"
    shutil.copytree(finished.folder, folder, symlinks=True)
    bundle, root, outputs = folder / "models/shop", folder / "data/shop", folder / "outputs"
    publish(outputs, model="rakuten", version="1", run_id="run-1", uuid=None, bundle=bundle)
    with (root / "X_train.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))[:100]
    with (root / "Y_train.csv").open(encoding="utf-8", newline="") as stream:
        labels = {row[""]: int(row["prdtypecode"]) for row in csv.DictReader(stream)}
    records = traffic(bundle, root, rows)
    truth = {each.prediction_id: labels[row[""]] for each, row in zip(records, rows, strict=True)}
    Desk(folder, Trained(folder, bundle, [], [])).write(records, truth)
    return Project(folder)


def traffic(bundle: Path, root: Path, rows: list[dict[str, str]]) -> list[PredictionRecord]:
    products = [
        Product(row["designation"], row["description"], image.read_bytes() if image.is_file() else None)
        for row in rows
        for image in [root / f"images/image_train/image_{row['imageid']}_product_{row['productid']}.jpg"]
    ]
    return answers(bundle, [blurred(each) for each in products], "1", keep=True)


def test_a_look_is_a_run_of_its_own_experiment(project: Project, tmp_path: Path) -> None:
    home = {"PREFECT_HOME": str(tmp_path / "prefect")}
    done = project.run(sys.executable, "scripts/drift.py", "flow=true", *OPTIONS, check=False, **home)
    assert done.returncode == 20, done.stderr
    figures = json.loads(done.stdout)
    client = MlflowClient(f"sqlite:///{project.folder / 'outputs/mlflow.db'}")
    experiment = client.get_experiment_by_name("monitoring")
    assert experiment is not None
    [run, *_] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["rakuten.model_version"] == "1"
    assert run.data.tags["rakuten.drift_severity"] == "alarm"
    artifact = Path(client.download_artifacts(run.info.run_id, "drift.json", str(tmp_path)))
    assert json.loads(artifact.read_text()) == figures
    assert run.data.metrics["accuracy/estimated"] == pytest.approx(
        figures["reports"][0]["estimated_accuracy"]["value"]
    )
    assert list((project.folder / "outputs/monitoring").iterdir()) == [], "nothing is left to deliver"
    log = "log=sqlite:///outputs/no.db"
    failed = project.run(sys.executable, "scripts/drift.py", "flow=true", log, *OPTIONS, check=False, **home)
    assert failed.returncode == 1
    assert "there is no inference log at outputs/no.db" in failed.stderr


def test_an_alarm_trains_on_the_feedback_and_the_gate_decides(project: Project, tmp_path: Path) -> None:
    home = {"PREFECT_HOME": str(tmp_path / "prefect")}
    shown = [each for each in OPTIONS if each != "json=true"]

    def retrain(*more: str) -> str:
        command = [sys.executable, "scripts/drift.py", "retrain=true", *shown, *more]
        done = project.run(*command, check=False, **home)
        assert done.returncode == 20, done.stderr
        return done.stderr

    assert "nothing is trained: there are too few new labels" in retrain("min_labels=101")
    before = (project.folder / "outputs/champion.json").read_bytes()
    runs = set(project.folder.glob("outputs/*"))
    assert "is refused by the gate" in retrain()
    assert set(project.folder.glob("outputs/*")) > runs
    proposal = json.loads((project.folder / "outputs/retraining.json").read_text())
    assert proposal["trained"]["labels"] == 100
    assert proposal["trained"]["verdict"] == "refused"
    assert "weighted F1" in proposal["trained"]["reasons"] or "f1" in proposal["trained"]["reasons"].lower()
    assert (project.folder / "outputs/champion.json").read_bytes() == before, "the champion stays"
    [catalogue] = (project.folder / "outputs/retraining").glob("*/catalogue")
    with (catalogue / "X_train.csv").open(encoding="utf-8", newline="") as stream:
        assert sum(row[""].startswith("fb-") for row in csv.DictReader(stream)) == 100
    info = json.loads((project.folder / proposal["trained"]["bundle"] / "bundle.json").read_text())
    assert info["lineage"]["catalogue"] == "shop"
    assert "nothing is trained: there are too few new labels" in retrain(), (
        "none that it has not learned from"
    )
