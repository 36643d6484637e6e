"""The study's storage or MLflow goes away in mid-sweep: nothing is lost, and nothing waits for it but what must."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tests.experiment.conftest import Shop
from tests.experiment.sweeps import machine, start_sweep, trials_of, wait_for
from tests.services import MlflowServer, Postgres, mlflow_server, postgres

LONG = [
    "n_jobs=1",
    "trainer.max_epochs=25",
    "trainer.patience=25",
    "hydra.sweeper.pruner.n_startup_trials=99",
]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Postgres]:
    with postgres(tmp_path / "database") as running:
        yield running


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path / "server") as running:
        yield running


def first_run(folder: Path) -> dict[str, object]:
    """What the folder of the first trial says of itself."""
    runs = sorted(folder.glob("outputs/*/checkpoints/run.json"))
    found: dict[str, object] = json.loads(runs[0].read_text()) if runs else {}
    return found


def has_a_checkpoint(folder: Path) -> bool:
    return any(folder.glob("outputs/*/checkpoints/last.ckpt"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_storage_goes_away(shop: Shop, database: Postgres, tmp_path: Path) -> None:
    folder = machine(tmp_path / "here", shop)
    process = start_sweep(folder, f"storage={database.url}", "n_trials=2", "tracking=off", *LONG)
    wait_for(lambda: has_a_checkpoint(folder), "the first epoch", [process])
    database.stop()
    wait_for(lambda: first_run(folder).get("state") == "finished", "the running trial to finish", [process])
    database.start()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "the study's storage is away" in errors
    assert "the study's storage is back" in errors
    first, second = trials_of(database.url)
    assert (first.state, second.state) == (TrialState.COMPLETE, TrialState.COMPLETE)
    result = first_run(folder)["result"]
    assert isinstance(result, dict)
    assert first.values == [result["weighted_f1"]]
    # Every epoch is there, those that ended while nobody could be told as well.
    assert list(first.intermediate_values) == list(range(1, 26))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mlflow_goes_away(shop: Shop, mlflow: MlflowServer, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    folder = machine(tmp_path / "here", shop)
    process = start_sweep(folder, "n_trials=2", "tracking=server", f"tracking.uri={mlflow.uri}", *LONG)
    wait_for(lambda: has_a_checkpoint(folder), "the first epoch", [process])
    mlflow.kill()
    wait_for(lambda: first_run(folder).get("state") == "finished", "the running trial to finish", [process])
    mlflow.start()
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    client = MlflowClient(mlflow.uri)
    experiment = client.get_experiment_by_name("rakuten")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {
        "tiny": "FINISHED",
        "trial-000": "FINISHED",
        "trial-001": "FINISHED",
    }
    for trial in trials_of(f"sqlite:///{folder}/outputs/sweeps.db"):
        run = runs[f"trial-{trial.number:03d}"]
        assert trial.state == TrialState.COMPLETE
        assert run.data.metrics["weighted_f1"] == pytest.approx(trial.value)
        history = client.get_metric_history(run.info.run_id, "val/weighted_f1")
        assert len(history) == len({point.step for point in history}) == 25
    assert runs["tiny"].data.tags["best.run"] == Path(output.strip()).parent.name
    assert client.list_artifacts(runs["tiny"].info.run_id, "bundle")
    assert not list((folder / "outputs").rglob("*.jsonl"))
