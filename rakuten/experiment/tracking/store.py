"""The MLflow store: how it is opened, what is said when it cannot be, and how a run is found in it."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from rakuten.config import TrackingConfig
from rakuten.errors import RakutenError
from rakuten.experiment.tracking.courier import Refused
from rakuten.experiment.tracking.journal import without_password

RUN_TAG = "rakuten.run"  # holds the name of the run's folder
_ENVIRONMENT = {  # where it says nothing else itself
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # who needs MLflow here tries again by himself
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a shell reads stdout: bundle=$(python scripts/train.py)
}
_UPLOAD_S = "120"  # MLflow's own patience: a server may take longer to put a bundle away than to answer
_BAD_UPLOAD = (400, 413)  # HTTP: no such name, too large
_WRONG_ADDRESS = (401, 403, 404)  # HTTP
_PASSING_CODES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")  # MLflow's
_WRONG_LOGIN = ("authentication failed", "does not exist", "no pg_hba.conf entry")  # PostgreSQL's
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


class Away(RakutenError):  # noqa: N818 - a state of the store, not a fault of ours
    """The store cannot be reached now; it may be later."""


def check_store(config: TrackingConfig) -> None:
    """Make sure before hours of work that runs can be recorded.

    Raises:
        Away: it cannot be reached; known within seconds.
        RakutenError: it cannot be opened, now or later.
    """
    if config.kind != "off":
        check_database(config)
        open_store(config)


def client_class() -> Any:
    """MLflow's client, imported such that it keeps quiet."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # not before: the import sets levels of its own
    for name in ("mlflow.store.db.utils", "urllib3.connectionpool"):  # pages about what we say in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MlflowClient


def open_store(config: TrackingConfig) -> tuple[Any, str]:
    """A client and the id of the experiment, created where it is missing."""
    new_client = client_class()
    uri = absolute(config.uri)
    lock: AbstractContextManager[object] = nullcontext()
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        with explained(config):
            path.parent.mkdir(parents=True, exist_ok=True)
        # Runs that start together must not lay the tables of a new file both at once.
        lock = FileLock(path.with_name(f".{path.name}.lock"))
    with explained(config), lock:
        client = new_client(uri)
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is not None:
            return client, experiment.experiment_id
        # Fixed when the experiment is made, so it is made with an absolute place.
        root = None if config.artifact_root is None else Path(config.artifact_root).absolute().as_uri()
        return client, client.create_experiment(config.experiment, artifact_location=root)


def absolute(uri: str) -> str:
    """The URI, a SQLite file's place made absolute."""
    file = uri.removeprefix("sqlite:///")
    return uri if file == uri else f"sqlite:///{Path(file).absolute()}"


def check_database(config: TrackingConfig) -> None:
    """MLflow knocks for minutes at a database that is not there."""
    parts = urlsplit(config.uri)
    port = _DATABASE_PORTS.get(parts.scheme.split("+")[0])
    if port is None or parts.hostname is None:
        return
    with explained(config):
        socket.create_connection((parts.hostname, parts.port or port), timeout=5).close()


def find_run(client: Any, experiment_id: str, name: str, run_id: str | None) -> str | None:
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
def explained(config: TrackingConfig) -> Iterator[None]:
    """Whatever MLflow, its database driver or the network raise, as one error that shows no password."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError, ValueError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        # Only what no patience mends. MLflow calls a database that is read-only a bad request, and one that lost its
        # runs knows no such run: both may be right again later.
        is_refusal = (
            getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE"
            or _http_status(error) in _BAD_UPLOAD
        )
        kind = Refused if is_refusal else Away if _is_away(error, config.uri) else RakutenError
        raise kind(
            f"MLflow at {without_password(config.uri)} cannot be used",
            got=without_password(lines[0]),
            fix="tracking=local records in outputs/mlflow.db, tracking=off records nothing",
        ) from error


def _is_away(error: Exception, uri: str) -> bool:
    """Whether waiting may help: nobody answers, or one who has lost his database."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import InterfaceError, OperationalError

    if uri.startswith("sqlite") or any(text in str(error).lower() for text in _WRONG_LOGIN):
        return False
    if isinstance(error, MlflowException):
        return error.error_code in _PASSING_CODES and _http_status(error) not in _WRONG_ADDRESS
    return isinstance(
        error, ConnectionError | TimeoutError | socket.gaierror | OperationalError | InterfaceError
    )


def _http_status(error: Exception) -> int | None:
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


@contextmanager
def time_to_upload() -> Iterator[None]:
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ[name]
    os.environ[name] = _UPLOAD_S if before == _ENVIRONMENT[name] else before
    try:
        yield
    finally:
        os.environ[name] = before
