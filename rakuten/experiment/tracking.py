"""Runs and their record. The only module that imports mlflow.

A run's status is owned here: Lightning leaves it RUNNING when the failure is outside `fit`.
"""

import logging
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock
from rich.console import Console

from rakuten.config import TrackingConfig, TrainConfig
from rakuten.config_io import to_plain
from rakuten.errors import RakutenError
from rakuten.experiment.courier import JournaledRun, Refused, UntrackedRun, deliver_left, outage
from rakuten.experiment.courier import TrackedRun as TrackedRun
from rakuten.experiment.journal import HELD_S, MAX_METRICS_PER_CALL, Journal, Op, Status, now_ms
from rakuten.experiment.journal import JOURNAL as JOURNAL
from rakuten.experiment.journal import without_password as without_password

PARENT_TAG = "mlflow.parentRunId"  # MLflow's own: its pages nest a run below the one that is named here
RUN_TAG = "rakuten.run"  # holds the name of the run's folder
# What a process imports before it is forked to track runs.
PRELOAD = ("mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store")
MAX_PARAMS_PER_CALL = 100  # MLflow's limit of a batch
_ENVIRONMENT = {  # where it says nothing else itself
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # who needs MLflow here tries again by himself
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_UPLOAD_S = "120"  # MLflow's own patience: a server may take longer to put a bundle away than to answer
_BAD_UPLOAD = (400, 413)  # HTTP: no such name, too large
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


class _Delivery:
    """Brings a journal's lines to MLflow, through its client alone: no global active run, no autologging.

    Every line may come again, after a crash or an answer that got lost, and changes nothing then.
    """

    def __init__(self, config: TrackingConfig):
        self.run_id: str | None = None
        self._config = config
        self._store: tuple[Any, str] | None = None

    def __call__(self, ops: list[Op]) -> None:
        try:
            with _explained(self._config):
                if self._store is None:
                    _check_database(self._config)
                    self._store = _open(self._config)
                self._send(*self._store, ops)
        except Refused:
            raise
        except BaseException:
            self._store = None  # opened anew
            raise

    def _send(self, client: Any, experiment_id: str, ops: list[Op]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        op = ops[0]
        kind = op["op"]
        if kind == "start":
            known = _find(client, experiment_id, op["name"], self.run_id or op["resume_id"])
            if known is None:
                created = client.create_run(experiment_id, op["time"], op["tags"], op["run_name"])
                known = created.info.run_id
            else:
                client.update_run(known, status="RUNNING")
            self.run_id = str(known)
        if kind in ("start", "tags"):
            client.log_batch(self.run_id, tags=[RunTag(k, str(v)) for k, v in op["tags"].items()])
        elif kind == "params":
            # A param is immutable; a resumed run has its own already.
            known = client.get_run(self.run_id).data.params
            new = [Param(k, v) for k, v in op["params"].items() if k not in known]
            for start in range(0, len(new), MAX_PARAMS_PER_CALL):
                client.log_batch(self.run_id, params=new[start : start + MAX_PARAMS_PER_CALL])
        elif kind == "metrics":
            points = [Metric(k, v, op["time"], op["step"]) for op in ops for k, v in op["values"].items()]
            for start in range(0, len(points), MAX_METRICS_PER_CALL):
                client.log_batch(self.run_id, metrics=points[start : start + MAX_METRICS_PER_CALL])
        elif kind == "artifacts":
            if Path(op["folder"]).is_dir():
                with _time_to_upload():
                    client.log_artifacts(self.run_id, op["folder"], op["name"])
        elif kind == "text":
            client.log_text(self.run_id, op["text"], op["name"])
        elif kind == "finish":
            client.set_terminated(self.run_id, op["status"], op["time"])


def check_store(config: TrackingConfig) -> None:
    """Make sure before hours of work that runs can be recorded.

    Raises:
        RakutenError: the tracking store cannot be reached or opened; within seconds.
    """
    if config.kind == "off":
        return
    _check_database(config)
    _open(config)


def start_run(
    config: TrackingConfig,
    name: str,
    tags: Mapping[str, str],
    journal: Path,
    resume_id: str | None = None,
    run_name: str | None = None,
    console: Console | None = None,
) -> TrackedRun:
    """A new run, or the run `resume_id` set going again; a new one too where the store does not know that id.

    `run_id` is known at once where MLflow can be reached, else when it can be again.

    Raises:
        RakutenError: the tracking store refuses the run, or another process has its journal.
    """
    if config.kind == "off":
        return UntrackedRun()
    journal.parent.mkdir(parents=True, exist_ok=True)
    book = Journal(journal, console.print if console else str, wait_s=HELD_S)
    has_more = book.pending  # what an earlier process left is delivered first
    delivery = _Delivery(config)
    start = book.append(
        "start",
        name=name,
        run_name=run_name or name,
        resume_id=resume_id,
        tags={**tags, RUN_TAG: name},
        uri=without_password(_absolute(config.uri)),
        experiment=config.experiment,
        time=now_ms(),
    )
    try:
        delivery([start])
    except (Refused, KeyboardInterrupt, SystemExit) as error:
        book.remove() if isinstance(error, Refused) and not has_more else book.close()
        raise
    except Exception as error:
        book.tell(outage(error, journal))
    else:
        if not has_more:
            book.arrived([start])
    return JournaledRun(book, delivery, is_away=delivery.run_id is None)


def deliver_pending(config: TrackingConfig, outputs_dir: Path, console: Console) -> int:
    """Deliver what runs below `outputs_dir` could not while MLflow was away; the number of their journals."""
    if config.kind == "off":
        return 0
    uri = without_password(_absolute(config.uri))
    return deliver_left(outputs_dir, uri, config.experiment, lambda: _Delivery(config), console.print)


def finish_run(config: TrackingConfig, name: str, run_id: str | None, status: Status) -> bool:
    """Set the status of a run whose process is gone; False where its record is in another store."""
    if config.kind == "off":
        return run_id is None
    client, experiment_id = _open(config)
    with _explained(config):
        known = _find(client, experiment_id, name, run_id)
        if known is not None:
            client.set_terminated(known, status)
    return known is not None or run_id is None


def public(config: TrainConfig) -> dict[str, Any]:
    """The config as plain values, as it may be shown and stored: without the tracking store's password."""
    plain: dict[str, Any] = to_plain(config)
    plain["tracking"]["uri"] = without_password(config.tracking.uri)
    return plain


def git_tags(folder: Path) -> dict[str, str]:
    """git_commit, git_branch and git_dirty of the repository at `folder`; empty outside one."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        return {
            "git_commit": git("rev-parse", "HEAD"),
            "git_branch": git("rev-parse", "--abbrev-ref", "HEAD"),
            "git_dirty": str(bool(git("status", "--porcelain"))).lower(),
        }
    except (subprocess.SubprocessError, OSError):
        return {}


def _open(config: TrackingConfig) -> tuple[Any, str]:
    """A client and the id of the experiment, created where it is missing."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # not before: the import sets levels of its own
    for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):  # pages about what we say in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    uri = _absolute(config.uri)
    lock: AbstractContextManager[object] = nullcontext()
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        with _explained(config):
            path.parent.mkdir(parents=True, exist_ok=True)
        # Runs that start together must not lay the tables of a new file both at once.
        lock = FileLock(path.with_name(f".{path.name}.lock"))
    with _explained(config), lock:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is not None:
            return client, experiment.experiment_id
        # Fixed when the experiment is made, so it is made with an absolute place.
        root = None if config.artifact_root is None else Path(config.artifact_root).absolute().as_uri()
        return client, client.create_experiment(config.experiment, artifact_location=root)


def _absolute(uri: str) -> str:
    file = uri.removeprefix("sqlite:///")
    return uri if file == uri else f"sqlite:///{Path(file).absolute()}"


def _check_database(config: TrackingConfig) -> None:
    """MLflow knocks for minutes at a database that is not there."""
    parts = urlsplit(config.uri)
    port = _DATABASE_PORTS.get(parts.scheme.split("+")[0])
    if port is None or parts.hostname is None:
        return
    with _explained(config):
        socket.create_connection((parts.hostname, parts.port or port), timeout=5).close()


def _find(client: Any, experiment_id: str, name: str, run_id: str | None) -> str | None:
    """The record of the run folder `name`: by its id, or by its tag if the process died before it noted the id."""
    from mlflow.exceptions import MlflowException

    if run_id is not None:
        try:
            return str(client.get_run(run_id).info.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{name}'", max_results=1)
    return str(found[0].info.run_id) if found else None


@contextmanager
def _explained(config: TrackingConfig) -> Iterator[None]:
    """Whatever MLflow, its database driver or the network raise, as one error that shows no password."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError, ValueError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        # Only what no patience mends. MLflow calls a database that is read-only a bad request, and one that lost its
        # runs knows no such run: both may be right again later.
        code, answer = getattr(error, "error_code", None), getattr(error, "response", None)
        is_refusal = code == "INVALID_PARAMETER_VALUE" or getattr(answer, "status_code", None) in _BAD_UPLOAD
        raise (Refused if is_refusal else RakutenError)(
            f"MLflow at {without_password(config.uri)} cannot be used",
            got=without_password(lines[0]),
            fix="tracking=local records in outputs/mlflow.db, tracking=off records nothing",
        ) from error


@contextmanager
def _time_to_upload() -> Iterator[None]:
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ[name]
    os.environ[name] = _UPLOAD_S if before == _ENVIRONMENT[name] else before
    try:
        yield
    finally:
        os.environ[name] = before
