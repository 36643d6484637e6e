"""Runs and their record. The only module that imports mlflow.

A run's status is owned here: Lightning leaves it RUNNING when the failure is outside `fit`.
"""

import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from filelock import FileLock

from rakuten.config import TrackingConfig, TrainConfig
from rakuten.config_io import to_plain
from rakuten.errors import RakutenError

Status = Literal["FINISHED", "FAILED", "KILLED"]
RUN_TAG = "rakuten.run"  # holds the name of the run's folder
MAX_PARAMS_PER_CALL = 100  # MLflow's limit of a batch
MAX_PARAM_CHARS = 500
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


class TrackedRun(Protocol):
    """One recorded run."""

    @property
    def run_id(self) -> str | None: ...

    def log_params(self, params: Mapping[str, object]) -> None: ...
    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None: ...
    def log_artifacts(self, folder: Path, name: str) -> None: ...
    def log_text(self, text: str, name: str) -> None: ...
    def finish(self, status: Status) -> None: ...


class UntrackedRun:
    """tracking=off: nothing is recorded but what the run's folder holds."""

    run_id = None

    def log_params(self, params: Mapping[str, object]) -> None: ...
    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None: ...
    def log_artifacts(self, folder: Path, name: str) -> None: ...
    def log_text(self, text: str, name: str) -> None: ...
    def finish(self, status: Status) -> None: ...


class MlflowRun:
    """A run in MLflow, through its client alone: no global active run, no autologging.

    Every method raises RakutenError where the store fails.
    """

    def __init__(self, client: Any, run_id: str, config: TrackingConfig):
        self._client, self.run_id, self._config = client, run_id, config

    def log_params(self, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        with _explained(self._config):
            # A param is immutable; a resumed run has its own already.
            known = self._client.get_run(self.run_id).data.params
            new = [Param(k, str(v)[:MAX_PARAM_CHARS]) for k, v in params.items() if k not in known]
            for start in range(0, len(new), MAX_PARAMS_PER_CALL):
                self._client.log_batch(self.run_id, params=new[start : start + MAX_PARAMS_PER_CALL])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with _explained(self._config):
            self._client.log_batch(
                self.run_id, metrics=[Metric(k, float(v), now, step) for k, v in metrics.items()]
            )

    def log_artifacts(self, folder: Path, name: str) -> None:
        with _explained(self._config):
            self._client.log_artifacts(self.run_id, str(folder), name)

    def log_text(self, text: str, name: str) -> None:
        with _explained(self._config):
            self._client.log_text(self.run_id, text, name)

    def finish(self, status: Status) -> None:
        with _explained(self._config):
            self._client.set_terminated(self.run_id, status)


def check_store(config: TrackingConfig) -> None:
    """Make sure before hours of work that runs can be recorded.

    Raises:
        RakutenError: the tracking store cannot be reached or opened; within seconds.
    """
    if config.kind == "off":
        return
    _check_database(config)
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    missing = {name: value for name, value in patience.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        _open(config)
    finally:
        for name in missing:  # a run that is under way bears with a server for longer
            del os.environ[name]


def start_run(
    config: TrackingConfig, name: str, tags: Mapping[str, str], resume_id: str | None = None
) -> TrackedRun:
    """A new run, or the run `resume_id` set going again; a new one too where the store does not know that id.

    Raises:
        RakutenError: the tracking store cannot be reached or refuses the run.
    """
    if config.kind == "off":
        return UntrackedRun()
    client, experiment_id = _open(config)
    tags = {**tags, RUN_TAG: name}
    with _explained(config):
        known = _find(client, experiment_id, name, resume_id)
        if known is not None:
            client.update_run(known, status="RUNNING")
            for key, value in tags.items():
                client.set_tag(known, key, value)
            return MlflowRun(client, known, config)
        run_id = client.create_run(experiment_id, tags=tags, run_name=name).info.run_id
        return MlflowRun(client, run_id, config)


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


def without_password(text: str) -> str:
    """`text` with the password of every URI in it starred out."""
    return re.sub(r"(://[^:/@\s]*):[^\s'\"]*@", r"\1:***@", text)


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
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # not before: the import sets levels of its own
    uri = config.uri
    lock: AbstractContextManager[object] = nullcontext()
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///")).absolute()
        with _explained(config):
            path.parent.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{path}"
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
        raise RakutenError(
            f"MLflow at {without_password(config.uri)} cannot be used",
            got=without_password(lines[0]),
            fix="tracking=local records in outputs/mlflow.db, tracking=off records nothing",
        ) from error
