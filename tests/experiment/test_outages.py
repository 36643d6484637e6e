"""What a team shares goes away before, in the middle of or at the end of training: nothing is lost, nothing twice."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from rakuten.cli import compose
from rakuten.config import TrainConfig
from rakuten.experiment.runs import read_run
from rakuten.experiment.tracking import courier
from rakuten.experiment.tracking.delivery import deliver_pending
from rakuten.experiment.train import train
from tests.experiment.conftest import DEMO, FUSION, LOOP, MakeTrain, Shop, Told, run_script
from tests.services import Team, team

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MOMENTS = {"during": "epoch   1/2", "at the end": "epoch   2/2"}
ALWAYS = {
    ("MLflow", "before"),
    ("MLflow", "during"),
    ("PostgreSQL", "during"),
    ("S3", "during"),
    ("S3", "at the end"),
}
OUTAGES = [  # nine, of which some are for `make acceptance`
    pytest.param(service, moment, marks=() if (service, moment) in ALWAYS else pytest.mark.acceptance)
    for service in ("MLflow", "PostgreSQL", "S3")
    for moment in ("before", *MOMENTS)
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with team(tmp_path_factory.mktemp("outages") / "team") as shared:
        yield shared


@pytest.fixture
def config(shared: Team, train_config: MakeTrain, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    monkeypatch.setattr(courier, "FLUSH_S", 1)
    monkeypatch.setattr(courier, "_PAUSES_S", (0.2, 1))
    return train_config("tracking=server", f"tracking.uri={shared.mlflow.uri}")


def switch(shared: Team, service: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """What takes it away, and what brings it back."""
    return {
        "MLflow": (shared.mlflow.kill, shared.mlflow.start),
        "PostgreSQL": (shared.database.stop, shared.database.start),
        "S3": (shared.door.shut, shared.door.open),
    }[service]


def record(uri: str, name: str) -> dict[str, Any]:
    """All that MLflow knows of a run, as far as two runs of the same config agree in it."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("rakuten")
    [run] = client.search_runs([experiment.experiment_id], f"tags.`rakuten.run` = '{name}'")

    def files(folder: str | None = None) -> Iterator[str]:
        for item in client.list_artifacts(run.info.run_id, folder):
            yield from files(item.path) if item.is_dir else [item.path]

    points = {
        key: [
            (point.step, point.timestamp, point.value)
            for point in client.get_metric_history(run.info.run_id, key)
        ]
        for key in run.data.metrics
    }
    for history in points.values():
        assert len(set(history)) == len(history), "none twice"
        assert history == sorted(history, key=lambda point: point[:2]), "in order"
    params = {
        key: value
        for key, value in run.data.params.items()
        if not key.startswith(("tracking.", "outputs_dir"))
    }
    return {
        "status": run.info.status,
        "params": params,
        "steps": {key: [step for step, _, _ in history] for key, history in points.items()},
        "scores": [value for _, _, value in points["val/weighted_f1"]],
        "files": sorted(files()),
        "tags": sorted(key for key in run.data.tags),
    }


@pytest.fixture(scope="module")
def undisturbed(shared: Team, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    outputs = tmp_path_factory.mktemp("undisturbed")
    places = [f"outputs_dir={outputs}", "tracking=server", f"tracking.uri={shared.mlflow.uri}", *shop.paths]
    bundle = train(compose("train", [*DEMO, *FUSION, *LOOP, *places]), Told())
    return record(shared.mlflow.uri, bundle.parent.name)


def its_process_is_over() -> None:
    """Training in a process of its own takes the thread that tries once more along; here it is waited for."""
    for thread in threading.enumerate():
        if thread.name == "tracking":
            thread.join(300)


@pytest.mark.parametrize(("service", "moment"), OUTAGES)
def test_no_outage_costs_a_run(
    shared: Team, config: TrainConfig, undisturbed: dict[str, Any], service: str, moment: str
) -> None:
    go, come_back = switch(shared, service)
    told = Told({MOMENTS[moment]: go} if moment in MOMENTS else None)
    if moment == "before":
        go()
    try:
        bundle = train(config, told)
        its_process_is_over()
    finally:
        come_back()
    run = read_run(bundle.parent)
    assert run is not None
    assert run.state == "finished"
    journal = run.checkpoints / "tracking.jsonl"
    assert journal.exists(), told.text
    if (service, moment) == ("S3", "at the end"):  # once as people do it
        places = [f"tracking.uri={shared.mlflow.uri}", f"outputs_dir={config.outputs_dir}"]
        done = run_script("doctor", ["deliver=true", "tracking=server", *places], config.outputs_dir.parent)
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        assert deliver_pending(config.tracking, config.outputs_dir, told) == 1
    assert not journal.exists()
    assert record(shared.mlflow.uri, run.run_id) == undisturbed


def test_files_are_in_the_bucket_and_nowhere_else(
    shared: Team, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    keys = shared.keys()
    assert len([key for key in keys if key.endswith("bundle/weights.safetensors")]) >= 1
    assert all(key.startswith("mlflow/") for key in keys)
    assert not list(shared.mlflow.folder.rglob("*.safetensors"))
    assert undisturbed["status"] == "FINISHED"
