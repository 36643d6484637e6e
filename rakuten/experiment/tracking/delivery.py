"""A run's record: begun here, told through its journal, brought to MLflow through its client alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from rakuten.config import TrackingConfig, TrainConfig
from rakuten.config_io import to_plain
from rakuten.experiment.tracking.courier import (
    JournaledRun,
    Refused,
    TrackedRun,
    UntrackedRun,
    deliver_left,
    outage,
)
from rakuten.experiment.tracking.journal import (
    HELD_S,
    MAX_METRICS_PER_CALL,
    Journal,
    Op,
    Status,
    now_ms,
    without_password,
)
from rakuten.experiment.tracking.store import (
    RUN_TAG,
    absolute,
    check_database,
    explained,
    find_run,
    open_store,
    time_to_upload,
)

PARENT_TAG = "mlflow.parentRunId"  # MLflow's own: its pages nest a run below the one that is named here
# What a process imports before it is forked to track runs.
PRELOAD = ("mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store")
MAX_PARAMS_PER_CALL = 100  # MLflow's limit of a batch


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
            with explained(self._config):
                if self._store is None:
                    check_database(self._config)
                    self._store = open_store(self._config)
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
            known = find_run(client, experiment_id, op["name"], self.run_id or op["resume_id"])
            if known is None and not op.get("reopen", True):
                raise Refused("there is no such run", got=op["name"])
            if known is None:
                created = client.create_run(experiment_id, op["time"], op["tags"], op["run_name"])
                known = created.info.run_id
            elif op.get("reopen", True):
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
                with time_to_upload():
                    client.log_artifacts(self.run_id, op["folder"], op["name"])
        elif kind == "text":
            client.log_text(self.run_id, op["text"], op["name"])
        elif kind == "finish":
            client.set_terminated(self.run_id, op["status"], op["time"])


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
    return _begin(config, name, journal, console, resume_id=resume_id, run_name=run_name or name, tags=tags)


def attach(
    config: TrackingConfig,
    name: str,
    run_id: str | None,
    files: Sequence[Path],
    journal: Path,
    console: Console,
) -> None:
    """Give text files to a run that has ended, as artifacts; its status and times stay as they are.

    `journal` is the run's own, if its folder is here: what the run itself has yet to deliver goes first.

    Raises:
        RakutenError: the store knows no such run, or another process has its journal.
    """
    if config.kind == "off":
        return
    run = _begin(config, name, journal, console, resume_id=run_id, run_name=name, tags={}, reopen=False)
    for file in files:
        run.log_text(file.read_text(encoding="utf-8"), file.name)
    run.close()


def _begin(
    config: TrackingConfig,
    name: str,
    journal: Path,
    console: Console | None,
    *,
    tags: Mapping[str, str],
    reopen: bool = True,
    **more: str | None,
) -> JournaledRun:
    journal.parent.mkdir(parents=True, exist_ok=True)
    book = Journal(journal, console.print if console else str, wait_s=HELD_S)
    has_more = book.pending  # what an earlier process left is delivered first
    delivery = _Delivery(config)
    start = book.append(
        "start",
        name=name,
        tags={**tags, RUN_TAG: name},
        uri=without_password(absolute(config.uri)),
        experiment=config.experiment,
        time=now_ms(),
        reopen=reopen,
        **more,
    )
    try:
        if reopen or not has_more:
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
    uri = without_password(absolute(config.uri))
    return deliver_left(outputs_dir, uri, config.experiment, lambda: _Delivery(config), console.print)


def finish_run(config: TrackingConfig, name: str, run_id: str | None, status: Status) -> bool:
    """Set the status of a run whose process is gone; False where its record is in another store."""
    if config.kind == "off":
        return run_id is None
    client, experiment_id = open_store(config)
    with explained(config):
        known = find_run(client, experiment_id, name, run_id)
        if known is not None:
            client.set_terminated(known, status)
    return known is not None or run_id is None


def public(config: TrainConfig) -> dict[str, Any]:
    """The config as plain values, as it may be shown and stored: without the tracking store's password."""
    plain: dict[str, Any] = to_plain(config)
    plain["tracking"]["uri"] = without_password(config.tracking.uri)
    return plain
