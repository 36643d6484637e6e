"""MLflow: reached or not, artifacts where they should be or not, records that arrived and those that did not."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from rich.console import Console

from rakuten.cli import compose
from rakuten.config import DoctorConfig, TrackingConfig
from rakuten.doctor.check import Check, Finding, Report, Severity, run_checks
from rakuten.doctor.tracking import check_journals, check_mlflow, check_runs, deliver
from rakuten.experiment.runs import create_run
from rakuten.experiment.tracking.journal import Journal, now_ms
from rakuten.experiment.tracking.store import RUN_TAG, open_store
from tests.doctor.conftest import assert_finding
from tests.services import MlflowServer, free_port, mlflow_server

OK, SKIPPED, WARNING, ERROR = Severity.OK, Severity.SKIPPED, Severity.WARNING, Severity.ERROR


def told(tracking: TrackingConfig, bucket: str | None = None) -> Finding:
    """As the doctor tells it, errors included."""
    ((_, finding),) = run_checks([Check("MLflow", lambda: check_mlflow(tracking, bucket), limit_s=300)])
    return finding


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    """A SQLite store with an experiment."""
    folder = tmp_path_factory.mktemp("local")
    config = TrackingConfig(
        kind="mlflow",
        uri=f"sqlite:///{folder}/mlflow.db",
        artifact_root=str(folder / "artifacts"),
        experiment="rakuten",
    )
    open_store(config)
    return config


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("tracking") / "server") as running:
        yield running


def test_off() -> None:
    assert_finding(
        told(TrackingConfig(kind="off", uri="", artifact_root=None, experiment="x")), SKIPPED, "off"
    )


def test_a_file_that_the_first_run_makes(tmp_path: Path) -> None:
    config = compose("doctor", [f"tracking.uri=sqlite:///{tmp_path}/new/mlflow.db"], DoctorConfig)
    assert_finding(told(config.tracking), OK, "will be made by the first run", "outputs/mlartifacts")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_made(local: TrackingConfig) -> None:
    config = replace(local, uri="sqlite:////proc/rakuten/mlflow.db")
    assert_finding(told(config), ERROR, "/proc/rakuten/mlflow.db cannot be made", cure="another folder")


def test_a_file_that_is_no_database(local: TrackingConfig, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database " * 1000)
    finding = told(replace(local, uri=f"sqlite:///{tmp_path}/mlflow.db"))
    assert_finding(finding, ERROR, "cannot be used", "not a database")


def test_artifacts_go_where_they_should(local: TrackingConfig) -> None:
    assert_finding(told(local), OK, "experiment rakuten: artifacts go to", str(local.artifact_root))


def test_an_experiment_keeps_the_place_that_it_was_made_with(local: TrackingConfig, tmp_path: Path) -> None:
    config = replace(local, artifact_root=str(tmp_path / "elsewhere"))
    finding = told(config)
    assert_finding(finding, WARNING, f"and not to {tmp_path}/elsewhere", cure="tracking.experiment=NAME")


def test_a_place_that_cannot_be_written(local: TrackingConfig) -> None:
    config = replace(local, artifact_root="/proc/rakuten/artifacts", experiment="unwritable")
    open_store(config)
    assert_finding(
        told(config),
        ERROR,
        "/proc/rakuten/artifacts, which cannot be written",
        cure="tracking.experiment=NAME",
    )


def test_the_experiment_that_is_yet_to_be_made_would_have_such_a_place(local: TrackingConfig) -> None:
    config = replace(local, artifact_root="/proc/rakuten/artifacts", experiment="new")
    assert_finding(told(config), ERROR, "/proc/rakuten/artifacts, which cannot be written")
    client, _ = open_store(local)
    assert client.get_experiment_by_name("new") is None, "a look makes nothing"


def test_a_deleted_experiment(local: TrackingConfig) -> None:
    config = replace(local, experiment="deleted")
    client, experiment_id = open_store(config)
    client.delete_experiment(experiment_id)
    assert_finding(told(config), ERROR, "experiment deleted is deleted", cure="mlflow experiments restore")


def at(uri: str) -> TrackingConfig:
    return TrackingConfig(kind="mlflow", uri=uri, artifact_root=None, experiment="rakuten")


def test_nobody_listens() -> None:
    finding = told(at(f"http://shop:hunter2@127.0.0.1:{free_port()}"))
    assert_finding(finding, ERROR, "nobody listens at 127.0.0.1:", cure="MLFLOW_TRACKING_URI")
    assert "hunter2" not in str(finding)


def test_no_database_listens(local: TrackingConfig) -> None:
    config = replace(local, uri=f"postgresql+psycopg://shop:hunter2@127.0.0.1:{free_port()}/mlflow")
    finding = told(config)
    assert_finding(finding, ERROR, "cannot be used", "refused")
    assert "hunter2" not in str(finding)


def test_one_who_listens_and_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rakuten.doctor.tracking.HEALTH_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        finding = told(at(f"http://127.0.0.1:{mute.getsockname()[1]}"))
    assert_finding(finding, ERROR, "not well", cure="MLFLOW_TRACKING_URI")


def test_another_program_listens() -> None:
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        finding = told(at(f"http://127.0.0.1:{other.server_address[1]}"))
        other.shutdown()
    assert_finding(finding, ERROR, "is not MLflow", cure="MLFLOW_TRACKING_URI")


@pytest.mark.slow
def test_a_server(server: MlflowServer) -> None:
    assert_finding(told(server.config), OK, "mlflow-artifacts:", "once the first run has made it")
    open_store(server.config)
    finding = told(server.config)
    assert_finding(finding, OK, server.uri, "experiment rakuten: artifacts go to mlflow-artifacts:")
    with_password = replace(server.config, uri=server.uri.replace("//", "//shop:hunter2@"))
    assert_finding(told(with_password), OK, "//shop:***@127.0.0.1")
    assert "once" not in finding.found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "severity", "said"),
    [
        ("/proc/mlflow/artifacts", ERROR, "a folder that this machine does not have"),
        ("s3://other/mlflow", ERROR, "S3_BUCKET_NAME is shop"),
        ("s3://shop/mlflow", OK, "s3://shop/mlflow"),
        ("{tmp_path}", WARNING, "which others do not have"),
    ],
)
def test_where_a_server_puts_artifacts(
    server: MlflowServer, tmp_path: Path, place: str, severity: Severity, said: str
) -> None:
    config = replace(server.config, experiment=f"at {place}")
    client, _ = open_store(server.config)
    client.create_experiment(config.experiment, artifact_location=place.format(tmp_path=tmp_path))
    cure = "" if severity == OK else "S3_BUCKET_NAME" if "bucket" in said.lower() else "tracking.experiment="
    assert_finding(told(config, bucket="shop"), severity, said, cure=cure)


# --- what runs said -------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, local: TrackingConfig) -> DoctorConfig:
    made = compose("doctor", [f"outputs_dir={tmp_path}/outputs"], DoctorConfig)
    return replace(made, tracking=local)


def leave(config: DoctorConfig, name: str, **changes: Any) -> Journal:
    """The journal of a run that ended without having reached MLflow; open, as in the process that writes it."""
    path = config.outputs_dir / name / "checkpoints/tracking.jsonl"
    path.parent.mkdir(parents=True)
    journal = Journal(path, str)
    tracking = replace(config.tracking, **changes)
    about = {"name": name, "run_name": name, "resume_id": None, "tags": {RUN_TAG: name}, "time": now_ms()}
    journal.append("start", uri=tracking.uri, experiment=tracking.experiment, **about)
    journal.append("metrics", values={"val/f1": 0.5}, step=1, time=now_ms())
    journal.append("finish", status="FINISHED", time=now_ms())
    return journal


def test_all_has_arrived(config: DoctorConfig) -> None:
    assert_finding(check_journals(config.tracking, config.outputs_dir), OK, "all that runs said has arrived")
    assert deliver(config, Console(quiet=True)) == Report(0)


def test_a_record_that_waits(config: DoctorConfig) -> None:
    journal = leave(config, "waits")
    assert_finding(
        check_journals(config.tracking, config.outputs_dir), OK, "has arrived, but for 1 that are going on"
    )
    journal.close()
    finding = check_journals(config.tracking, config.outputs_dir)
    assert_finding(finding, WARNING, f"not in MLflow yet: {journal.path}", cure="deliver=true")


def test_a_torn_record_is_no_trouble_of_its_own(config: DoctorConfig) -> None:
    journal = leave(config, "torn")
    journal.close()
    journal.path.write_bytes(journal.path.read_bytes()[:-5])
    assert check_journals(config.tracking, config.outputs_dir).severity == WARNING
    journal.path.write_bytes(b"{")
    assert check_journals(config.tracking, config.outputs_dir).severity == OK


def test_deliver(config: DoctorConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """One arrives; one is for another store; one is in the hands of a process that is alive."""
    leave(config, "ours").close()
    theirs = leave(config, "theirs", experiment="another")
    theirs.close()
    alive = leave(config, "alive")
    report = deliver(replace(config, json=True), Console(file=sys.stdout, width=200))
    said = capsys.readouterr().out
    assert report.exit_code == 10
    assert json.loads(str(report.text)) == {"delivered": 1, "left": [str(alive.path), str(theirs.path)]}
    assert "1 journals delivered, 2 left" in said
    assert f"{theirs.path}, for another store" in said
    assert f"{alive.path}, of a run that is going on" in said
    client, experiment_id = open_store(config.tracking)
    (run,) = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = 'ours'")
    assert (run.info.status, run.data.metrics["val/f1"]) == ("FINISHED", 0.5)
    alive.close()
    assert deliver(config, Console(quiet=True)) == Report(10), "theirs is left"
    assert deliver(
        replace(config, tracking=replace(config.tracking, experiment="another")), Console(quiet=True)
    ) == (Report(0))


def test_a_run_that_was_killed_is_ended_and_delivered(config: DoctorConfig) -> None:
    """Its process wrote no last line, and nobody has noticed yet."""
    run = create_run(config.outputs_dir, "key")
    journal = Journal(run.checkpoints / "tracking.jsonl", str)
    about = {
        "name": run.run_id,
        "run_name": "x",
        "resume_id": None,
        "tags": {RUN_TAG: run.run_id},
        "time": now_ms(),
    }
    journal.append("start", uri=config.tracking.uri, experiment=config.tracking.experiment, **about)
    journal.close()
    gone = subprocess.Popen(["true"])
    gone.wait()
    replace(run, pid=gone.pid).save()
    assert_finding(check_runs(config.outputs_dir), OK, f"interrupted: {run.run_id}", "resume=true")
    assert deliver(config, Console(quiet=True)) == Report(0)
    client, experiment_id = open_store(config.tracking)
    (record,) = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run.run_id}'")
    assert record.info.status == "KILLED"


def test_nothing_is_delivered_while_mlflow_is_away(
    config: DoctorConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    journal = leave(config, "waits", uri=uri)
    journal.close()
    away = replace(config, tracking=replace(config.tracking, uri=uri))
    assert deliver(away, Console(file=sys.stdout, width=200)).exit_code == 10
    assert "0 journals delivered, 1 left" in capsys.readouterr().out
    assert journal.path.exists()


def test_a_store_that_cannot_be_used_is_told(
    config: DoctorConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(config, "waits").close()
    unusable = replace(config, tracking=replace(config.tracking, uri="sqlite:////proc/rakuten/mlflow.db"))
    assert deliver(unusable, Console(file=sys.stdout, width=200)).exit_code == 20
    said = capsys.readouterr().out
    assert "cannot be used" in said
    assert "0 journals delivered, 1 left" in said


def test_runs(tmp_path: Path) -> None:
    assert_finding(check_runs(tmp_path), OK, "0 below")
