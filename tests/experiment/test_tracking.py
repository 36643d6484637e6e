"""What MLflow is told of a run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from rakuten.cli import compose
from rakuten.config import TrackingConfig
from rakuten.config_io import to_flat_dict, to_plain
from rakuten.errors import RakutenError
from rakuten.experiment.tracking.delivery import finish_run, public, start_run
from rakuten.experiment.tracking.journal import without_password
from rakuten.experiment.tracking.store import check_store
from tests.experiment.conftest import ENVIRONMENT, ROOT, TRACKED, Shop


@pytest.fixture(scope="module")
def client(shop: Shop) -> Any:
    return MlflowClient(f"sqlite:///{shop.folder / 'outputs/mlflow.db'}")


@pytest.fixture(scope="module")
def run(client: Any) -> Any:
    experiment = client.get_experiment_by_name("rakuten")
    [run] = client.search_runs([experiment.experiment_id])
    return run


def test_the_run_is_finished_and_named_as_its_folder(run: Any, shop: Shop) -> None:
    assert run.info.status == "FINISHED"
    assert run.info.run_name == run.data.tags["rakuten.run"] == shop.run.name
    assert run.info.run_id == json.loads((shop.run / "checkpoints/run.json").read_text())["tracking_id"]


def test_tags_say_where_it_comes_from(run: Any) -> None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
        ).stdout.strip()

    assert len(run.data.tags["data_fingerprint"]) == 32
    if commit := git("rev-parse", "HEAD"):
        assert len(run.data.tags["git_commit"]) == len(commit)
        assert run.data.tags["git_branch"] == git("rev-parse", "--abbrev-ref", "HEAD")
        assert run.data.tags["git_dirty"] in ("true", "false")


def test_params_are_flat_and_the_config_is_whole(run: Any, client: Any, shop: Shop) -> None:
    config = compose("train", TRACKED)
    params = {k: str(v) for k, v in to_flat_dict(config).items() if not k.startswith("data.codes.")}
    assert run.data.params == params
    path = client.download_artifacts(run.info.run_id, "config.yaml")
    assert yaml.safe_load(Path(path).read_text(encoding="utf-8")) == to_plain(config)


def test_metrics_by_step_and_by_epoch(run: Any, client: Any, shop: Shop) -> None:
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    assert len(losses) >= 2
    assert len({point.step for point in losses}) == len(losses)
    assert len(client.get_metric_history(run.info.run_id, "val/weighted_f1")) == 2
    scores = json.loads((shop.run / "evaluation/metrics.json").read_text())
    for side, by in scores.items():
        for modality, values in by.items():
            for name, value in values.items():
                assert run.data.metrics[f"{side}/{modality}/{name}"] == pytest.approx(value)


def test_bundle_and_report_are_artifacts(run: Any, client: Any, shop: Shop) -> None:
    for folder in ("bundle", "evaluation"):
        copy = Path(client.download_artifacts(run.info.run_id, folder))
        own = (path.relative_to(shop.run / folder) for path in (shop.run / folder).rglob("*"))
        # `scripts/evaluate.py` may have put another side's report beside those of the run
        here = {str(path) for path in own if path.parts[0] != "calib"}
        assert {str(path.relative_to(copy)) for path in copy.rglob("*")} == here
        assert all(
            (copy / name).read_bytes() == (shop.run / folder / name).read_bytes()
            for name in here
            if (copy / name).is_file()
        )


def tracking(uri: str) -> TrackingConfig:
    return TrackingConfig(kind="mlflow", uri=uri, artifact_root=None, experiment="rakuten")


@pytest.mark.parametrize(
    "uri",
    [
        "http://someone:hunter2@127.0.0.1:9",
        "postgresql+psycopg://someone:hun@ter2@127.0.0.1:9/mlflow",
        "no-such-store://someone:hunter2@there",
    ],
)
def test_a_store_out_of_reach_is_a_clear_error_without_the_password(uri: str) -> None:
    with pytest.raises(RakutenError, match="cannot be used") as raised:
        check_store(tracking(uri))
    assert "ter2" not in str(raised.value)
    assert "tracking=off" in str(raised.value)


def test_a_store_that_is_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "file.db").write_text("this is not SQLite " * 100)
    with pytest.raises(RakutenError, match="cannot be used"):
        check_store(tracking(f"sqlite:///{tmp_path / 'file.db'}"))


def test_passwords_are_starred_out_of_what_is_stored() -> None:
    config = compose("train", ["tracking=server", "tracking.uri='http://me:p@ss@host:5000/x'"])
    assert public(config)["tracking"]["uri"] == "http://me:***@host:5000/x"
    assert without_password("no secrets at sqlite:///a.db") == "no secrets at sqlite:///a.db"


def test_a_run_that_the_store_does_not_know_is_begun_anew(shop: Shop, tmp_path: Path) -> None:
    uri = f"sqlite:///{shop.folder / 'outputs/mlflow.db'}"
    config = TrackingConfig(kind="mlflow", uri=uri, artifact_root=str(tmp_path), experiment="elsewhere")
    journal = tmp_path / "tracking.jsonl"
    started = start_run(config, "name", {}, journal, resume_id="0" * 32)
    assert started.run_id not in (None, "0" * 32)
    started.finish("KILLED")
    assert not journal.exists()
    # Killed before it could note its id: found by its folder's name.
    assert start_run(config, "name", {}, journal).run_id == started.run_id
    assert finish_run(config, "name", None, "KILLED")
    assert finish_run(config, "never begun", None, "KILLED")
    assert not finish_run(config, "recorded elsewhere", "0" * 32, "KILLED")


def test_a_store_that_refuses_a_run_keeps_nothing_for_later(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    client = MlflowClient(uri)
    client.delete_experiment(client.create_experiment("gone"))
    config = TrackingConfig(kind="mlflow", uri=uri, artifact_root=None, experiment="gone")
    with pytest.raises(RakutenError, match="cannot be used") as raised:
        start_run(config, "name", {}, tmp_path / "run/tracking.jsonl")
    assert "active" in str(raised.value)
    assert not list((tmp_path / "run").iterdir())


def test_a_run_may_have_another_name_than_its_folder(tmp_path: Path) -> None:
    config = tracking(f"sqlite:///{tmp_path / 'runs.db'}")
    run = start_run(config, "folder", {"a": "b"}, tmp_path / "tracking.jsonl", run_name="shown")
    run.set_tags({"c": "d"})
    run.finish("FINISHED")
    found = MlflowClient(config.uri).get_run(run.run_id)
    assert found.info.run_name == "shown"
    assert {"rakuten.run": "folder", "a": "b", "c": "d"}.items() <= found.data.tags.items()


def test_tracking_off_imports_no_mlflow() -> None:
    program = (
        "import sys; from rakuten.cli import compose;"
        "from pathlib import Path; from rakuten.experiment.tracking.delivery import start_run;"
        "from rakuten.experiment.tracking.store import check_store;"
        "config = compose('train', ['tracking=off']).tracking;"
        "check_store(config); run = start_run(config, 'x', {}, Path('x/y'));"
        "run.log_metrics({'a': 1.0}); run.set_tags({'b': 'c'}); run.finish('FINISHED');"
        "print('mlflow' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, check=True
    )
    assert result.stdout == "False\n"
