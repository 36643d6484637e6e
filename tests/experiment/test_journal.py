"""MLflow goes away: the run does not notice, and MLflow knows all of it in the end. Real servers, really killed."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from rakuten.config import TrackingConfig
from rakuten.experiment.tracking import courier
from rakuten.experiment.tracking.delivery import deliver_pending, start_run
from rakuten.experiment.tracking.journal import Journal
from rakuten.experiment.train import train
from tests.experiment.conftest import ENVIRONMENT, ROOT, MakeTrain, Told
from tests.services import MlflowServer, mlflow_server

NAME = "20260101-000000-abcdef"  # of the run's folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    (tmp_path / "outputs" / NAME / "checkpoints").mkdir(parents=True)
    return tmp_path / "outputs"


@pytest.fixture
def local(tmp_path: Path) -> TrackingConfig:
    uri, artifacts = f"sqlite:///{tmp_path / 'runs.db'}", str(tmp_path / "artifacts")
    return TrackingConfig(kind="mlflow", uri=uri, artifact_root=artifacts, experiment="rakuten")


def journal_of(outputs: Path) -> Path:
    return outputs / NAME / "checkpoints/tracking.jsonl"


def known(config: TrackingConfig) -> dict[str, Any]:
    """All that MLflow knows of the one run there is; every point of every metric, so that nothing hides twice."""
    client = MlflowClient(config.uri)
    experiment = client.get_experiment_by_name(config.experiment)
    [run] = client.search_runs([experiment.experiment_id])
    points = {
        key: [
            (repr(point.value), point.timestamp, point.step)  # nan is not nan, but always `nan`
            for point in client.get_metric_history(run.info.run_id, key)
        ]
        for key in run.data.metrics
    }

    def files(folder: str | None = None) -> Iterator[str]:
        for item in client.list_artifacts(run.info.run_id, folder):
            yield from files(item.path) if item.is_dir else [item.path]

    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    times = run.info.start_time, run.info.end_time
    shown = {"status": run.info.status, "name": run.info.run_name, "times": times}
    return shown | {"params": run.data.params, "points": points, "tags": tags, "files": sorted(files())}


def told_in(journal: Path) -> dict[str, Any]:
    """What `known` must give once this journal has arrived."""
    ops = [json.loads(line) for line in journal.read_text().splitlines()]
    by = {
        kind: [op for op in ops if op["op"] == kind]
        for kind in ("start", "params", "metrics", "tags", "finish")
    }
    points: dict[str, list[tuple[str, int, int]]] = {}
    for op in by["metrics"]:
        for key, value in op["values"].items():
            points.setdefault(key, []).append((repr(value), op["time"], op["step"]))
    files = [op["name"] for op in ops if op["op"] == "text"]
    for op in ops:
        if op["op"] == "artifacts":
            files += [
                f"{op['name']}/{p.relative_to(op['folder'])}"
                for p in Path(op["folder"]).rglob("*")
                if p.is_file()
            ]
    return {
        "status": by["finish"][-1]["status"],
        "name": by["start"][-1]["run_name"],
        "times": (by["start"][0]["time"], by["finish"][-1]["time"]),
        "params": {key: value for op in by["params"] for key, value in op["params"].items()},
        "points": points,
        "tags": {key: value for op in by["start"] + by["tags"] for key, value in op["tags"].items()},
        "files": sorted(files),
    }


def make_folder(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "one.txt").write_text("one")
    (folder / "deep/two.txt").write_text("two")
    return folder


@pytest.mark.slow
def test_all_arrives_once_when_the_server_is_back(
    server: MlflowServer, outputs: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "FLUSH_S", 1)
    run = start_run(server.config, NAME, {"a": "b"}, journal_of(outputs), console=told)
    assert run.run_id is not None
    run.log_params({f"p{number}": number for number in range(150)})
    for step in range(5):
        run.log_metrics({"train/loss": 1 / (step + 1), "lr": 0.1}, step)
    server.kill()
    for step in range(5, 900):
        run.log_metrics({"train/loss": 1 / (step + 1), "lr": 0.1}, step)
    run.log_params({"late": "x"})
    run.log_text("some: yaml", "config.yaml")
    run.set_tags({"c": "d"})
    run.log_artifacts(make_folder(outputs / NAME / "bundle"), "bundle")
    run.log_artifacts(outputs / NAME / "was never made", "gone")
    run.finish("FINISHED")
    assert "the record is kept in" in told.text
    assert f"the next run delivers {journal_of(outputs)}" in told.text
    expected = told_in(journal_of(outputs))
    assert deliver_pending(server.config, outputs, told) == 0  # held by its thread, or nobody to deliver to
    server.start()
    while not deliver_pending(server.config, outputs, told):
        time.sleep(0.1)
    assert known(server.config) == expected
    assert len(expected["points"]["train/loss"]) == 900
    assert not list(journal_of(outputs).parent.iterdir())
    assert deliver_pending(server.config, outputs, told) == 0


@pytest.mark.acceptance  # test_outages has it before, during and at the end, with all that a team shares
def test_a_run_that_begins_and_ends_around_an_outage(server: MlflowServer, outputs: Path, told: Told) -> None:
    server.kill()
    run = start_run(server.config, NAME, {}, journal_of(outputs), console=told)
    assert run.run_id is None
    assert "the record is kept in" in told.text
    run.log_metrics({"loss": 1.0})
    server.start()
    run.finish("FINISHED")
    found = known(server.config)
    assert found["status"] == "FINISHED"
    assert [value for value, _, _ in found["points"]["loss"]] == ["1.0"]
    assert run.run_id is not None
    assert not list(journal_of(outputs).parent.iterdir())


LOGS = """
import os, signal, sys, time
from pathlib import Path
from rakuten.config import TrackingConfig
from rakuten.experiment.tracking.delivery import start_run
config = TrackingConfig(kind="mlflow", uri=sys.argv[1], artifact_root=sys.argv[2], experiment="rakuten")
run = start_run(config, sys.argv[3], {"a": "b"}, Path(sys.argv[4]))
run.log_params({"p": 1})
for step in range(int(sys.argv[5])):
    run.log_metrics({"loss": step / 7, "nan": float("nan")}, step)
    time.sleep(0.001)
    if step == 300:
        print("under way", flush=True)
time.sleep(600)
"""


def begin_a_run(config: TrackingConfig, journal: Path, num_steps: int) -> "subprocess.Popen[str]":
    """A process whose run has logged 301 times at least, and `num_steps` times at most."""
    arguments = [config.uri, str(config.artifact_root), NAME, str(journal), str(num_steps)]
    process = subprocess.Popen(
        [sys.executable, "-c", LOGS, *arguments], env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "under way\n"
    return process


def kill_a_run(config: TrackingConfig, journal: Path) -> None:
    """Leaves what a process leaves that was killed while it logged."""
    with begin_a_run(config, journal, num_steps=100_000) as process:
        process.kill()


def note_state(outputs: Path, state: str) -> None:
    (outputs / NAME / "checkpoints/run.json").write_text(json.dumps({"state": state}))


def test_killed_then_delivered_and_twice_is_once(local: TrackingConfig, outputs: Path, told: Told) -> None:
    journal = journal_of(outputs)
    kill_a_run(local, journal)
    with journal.open("ab") as file:
        file.write(b'{"op": "metrics", "values": {"lo')  # killed in the middle of a line
    note_state(outputs, "running")
    assert deliver_pending(local, outputs, told) == 1
    assert journal.exists()  # the run may be resumed
    first = known(local)
    assert first["status"] == "RUNNING"
    assert deliver_pending(local, outputs, told) == 1
    assert known(local) == first
    copy = shutil.copy(journal, journal.with_name("copy"))
    note_state(outputs, "killed")
    assert deliver_pending(local, outputs, told) == 1
    assert not journal.exists()
    ended = known(local)
    assert ended == first | {"status": "KILLED", "times": ended["times"]}
    shutil.copy(copy, journal)  # as if the end had not been noticed
    assert deliver_pending(local, outputs, told) == 1
    again = known(local)
    assert again == ended | {"times": again["times"]}
    losses = ended["points"]["loss"]
    assert [(value, step) for value, _, step in losses] == [
        (repr(step / 7), step) for step in range(len(losses))
    ]
    assert len(ended["points"]["nan"]) == len(losses) > 300
    assert not told.lines


def test_a_resumed_run_goes_on_in_the_journal_it_left(local: TrackingConfig, outputs: Path) -> None:
    kill_a_run(local, journal_of(outputs))
    run = start_run(local, NAME, {"a": "c"}, journal_of(outputs))
    run.log_params({"p": 2, "q": 3})
    run.log_metrics({"loss": -1.0}, 5000)
    run.finish("FINISHED")
    found = known(local)
    assert found["status"] == "FINISHED"
    assert found["params"] == {"p": "1", "q": "3"}
    assert found["tags"]["a"] == "c"
    assert len(found["points"]["loss"]) > 300
    assert found["points"]["loss"][-1][0] == "-1.0"
    assert not journal_of(outputs).exists()


def test_what_is_refused_is_told_and_left_out(local: TrackingConfig, outputs: Path, told: Told) -> None:
    run = start_run(local, NAME, {}, journal_of(outputs), console=told)
    for step in range(3):
        run.log_metrics({"good": step, "loss": 0.5}, step)
        run.log_metrics({"bad*name[red]": step}, step)
    run.log_params({"also*bad": 1})
    run.log_params({"fine": 1})
    run.finish("FINISHED")
    found = known(local)
    assert found["status"] == "FINISHED"
    assert found["params"] == {"fine": "1"}
    assert [(value, step) for value, _, step in found["points"]["good"]] == [
        ("0.0", 0),
        ("1.0", 1),
        ("2.0", 2),
    ]
    assert found["points"].keys() == {"good", "loss"}
    warnings = [line for line in told.lines if "MLflow does not take" in line]
    assert len(warnings) == 2
    assert "metrics bad*name" in warnings[0]
    assert "params also*bad" in warnings[1]


def test_a_torn_line_is_cut_off_and_the_file_goes_on(tmp_path: Path, told: Told) -> None:
    path = tmp_path / "tracking.jsonl"
    start = {
        "name": "n",
        "run_name": "n",
        "resume_id": None,
        "tags": {},
        "uri": "",
        "experiment": "",
        "time": 0,
    }
    for _ in range(2):
        journal = Journal(path, told.print)
        journal.append("start", **start)
        journal.close()
        whole = path.read_bytes()
        path.write_bytes(whole + b'{"op": "params", "par')
    journal = Journal(path, told.print)
    journal.append("tags", tags={})
    journal.close()
    assert path.read_bytes() == whole + b'{"op": "tags", "tags": {}}\n'
    assert not told.lines


@pytest.mark.parametrize(
    "content", [b"\0" * 50 + b"\n", b'{"op": "start"}\n', b'["start"]\n', b'{"op": "tags", "tags": {}}\n']
)
def test_a_file_that_makes_no_sense_is_set_aside(
    content: bytes, local: TrackingConfig, outputs: Path, told: Told
) -> None:
    journal = journal_of(outputs)
    journal.write_bytes(content)
    assert deliver_pending(local, outputs, told) == 0
    assert [path.name for path in journal.parent.iterdir()] == ["tracking.jsonl.corrupt"]
    assert journal.with_name("tracking.jsonl.corrupt").read_bytes() == content
    assert "set aside" in told.text
    journal.write_bytes(content)
    run = start_run(local, NAME, {}, journal)
    run.finish("FINISHED")
    assert known(local)["status"] == "FINISHED"


def test_nothing_whole_is_nothing_to_deliver(local: TrackingConfig, outputs: Path, told: Told) -> None:
    journal_of(outputs).write_bytes(b'{"op": "sta')
    assert deliver_pending(local, outputs, told) == 0
    assert not list(journal_of(outputs).parent.iterdir())


def test_a_live_run_and_another_store_are_left_alone(
    local: TrackingConfig, outputs: Path, told: Told
) -> None:
    with begin_a_run(local, journal_of(outputs), num_steps=301) as process:
        before = journal_of(outputs).read_bytes()
        note_state(outputs, "killed")
        assert deliver_pending(local, outputs, told) == 0
        assert journal_of(outputs).read_bytes() == before
        process.kill()
    other = TrackingConfig(kind="mlflow", uri=local.uri, artifact_root=None, experiment="another")
    assert deliver_pending(other, outputs, told) == 0
    assert journal_of(outputs).read_bytes() == before
    assert deliver_pending(local, outputs, told) == 1
    assert known(local)["status"] == "KILLED"


@pytest.mark.slow
@pytest.mark.acceptance  # test_outages has the same, with all that a team shares
def test_training_does_not_notice_that_the_server_dies(
    server: MlflowServer, train_config: MakeTrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "FLUSH_S", 1)
    config = train_config("tracking=server", f"tracking.uri={server.uri}", "trainer.num_workers=1")
    told = Told({"epoch   1/2": server.kill})
    bundle = train(config, told)
    assert (bundle / "bundle.json").is_file()
    journal = bundle.parent / "checkpoints/tracking.jsonl"
    assert f"the next run delivers {journal}" in told.text
    assert json.loads((journal.parent / "run.json").read_text())["state"] == "finished"
    expected = told_in(journal)
    server.start()
    following = Told()
    train(config, following)
    assert not journal.exists()
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("rakuten")
    second, first = client.search_runs([experiment.experiment_id])
    assert first.info.status == second.info.status == "FINISHED"
    assert first.info.run_name == bundle.parent.name
    assert first.data.params == expected["params"]
    for key, points in expected["points"].items():
        history = client.get_metric_history(first.info.run_id, key)
        assert [(repr(point.value), point.timestamp, point.step) for point in history] == points
