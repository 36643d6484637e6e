"""Runs and their record. The only module that imports mlflow.

A run's status is owned here: Lightning leaves it RUNNING when the failure is outside `fit`.
"""

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from rakuten.config import TrackingConfig
from rakuten.errors import RakutenError

Status = Literal["FINISHED", "FAILED", "KILLED"]
MAX_PARAMS_PER_CALL = 100  # MLflow's limit of a batch
MAX_PARAM_CHARS = 500


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
    """A run in MLflow, through its client alone: no global active run, no autologging."""

    def __init__(self, client: Any, run_id: str):
        self._client, self.run_id = client, run_id

    def log_params(self, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        # A param is immutable; a resumed run has its own already.
        known = self._client.get_run(self.run_id).data.params
        new = [Param(k, str(v)[:MAX_PARAM_CHARS]) for k, v in params.items() if k not in known]
        for start in range(0, len(new), MAX_PARAMS_PER_CALL):
            self._client.log_batch(self.run_id, params=new[start : start + MAX_PARAMS_PER_CALL])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self.run_id, metrics=[Metric(k, float(v), now, step) for k, v in metrics.items()]
        )

    def log_artifacts(self, folder: Path, name: str) -> None:
        self._client.log_artifacts(self.run_id, str(folder), name)

    def log_text(self, text: str, name: str) -> None:
        self._client.log_text(self.run_id, text, name)

    def finish(self, status: Status) -> None:
        self._client.set_terminated(self.run_id, status)


def start_run(
    config: TrackingConfig, name: str, tags: Mapping[str, str], resume_id: str | None = None
) -> TrackedRun:
    """A new run, or the run `resume_id` set going again.

    Raises:
        RakutenError: the tracking store cannot be reached or refuses the run.
    """
    if config.kind == "off":
        return UntrackedRun()
    from mlflow.exceptions import MlflowException

    try:
        client, experiment_id = _open(config)
        if resume_id is not None:
            client.update_run(resume_id, status="RUNNING")
            for key, value in tags.items():
                client.set_tag(resume_id, key, value)
            return MlflowRun(client, resume_id)
        return MlflowRun(client, client.create_run(experiment_id, tags=dict(tags), run_name=name).info.run_id)
    except MlflowException as error:
        raise RakutenError(
            f"MLflow at {_without_password(config.uri)} cannot be used",
            got=_without_password(str(error).splitlines()[0]),
            fix="tracking=local records in outputs/mlflow.db, tracking=off records nothing",
        ) from error


def finish_run(config: TrackingConfig, run_id: str, status: Status) -> None:
    """Set the status of a run whose process is gone."""
    if config.kind != "off":
        _open(config)[0].set_terminated(run_id, status)


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

    uri = config.uri
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        path = Path(uri.removeprefix("sqlite:///")).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{path}"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is not None:
        return client, experiment.experiment_id
    # Fixed when the experiment is made, so it is made with an absolute place.
    root = None if config.artifact_root is None else Path(config.artifact_root).absolute().as_uri()
    return client, client.create_experiment(config.experiment, artifact_location=root)


def _without_password(text: str) -> str:
    import re

    return re.sub(r"(://[^:/@\s]+):[^@\s]+@", r"\1:***@", text)
