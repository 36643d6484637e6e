"""Who answers for a run: its folder and its record end as the run does, whatever happens on the way."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape

from rakuten.config import DoctorConfig, TrainConfig
from rakuten.errors import RakutenError
from rakuten.experiment.pruning import Pruned
from rakuten.experiment.runs import RunFolder, State, all_runs
from rakuten.experiment.tracking.courier import TrackedRun, UntrackedRun
from rakuten.experiment.tracking.delivery import deliver_pending, finish_run
from rakuten.experiment.tracking.journal import Status
from rakuten.experiment.tracking.store import Away, check_store

STATE_TAG, REASON_TAG = "rakuten.state", "rakuten.reason"  # tags of an ended run


@dataclass
class Own:
    """The run that this process answers for, and its record once there is one."""

    run: RunFolder
    tracked: TrackedRun = field(default_factory=UntrackedRun)

    def end(self, state: State, status: Status, reason: str | None = None) -> None:
        self.tracked.set_tags(ending_tags(state, reason))
        self.run = self.run.with_state(state, reason)
        # Last, since it may wait for the store: whoever delivers a journal without this line finds it in the folder.
        self.tracked.finish(status)


@contextmanager
def owned(run: RunFolder) -> Iterator[Own]:
    """The run ends finished, pruned, failed or killed, whatever happens inside.

    MLflow knows no pruned runs: they are KILLED there, and a tag says the rest.
    """
    own = Own(run)
    try:
        yield own
    except (KeyboardInterrupt, SystemExit):
        own.end("killed", "KILLED")
        raise
    except Pruned as pruned:
        own.run = own.run.with_result(pruned.spent)
        own.tracked.log_metrics(pruned.spent)
        own.end("pruned", "KILLED", str(pruned))
        raise
    except BaseException as error:
        own.end("failed", "FAILED", reason_of(error))
        raise
    else:
        own.end("finished", "FINISHED")


def ending_tags(state: State, reason: str | None) -> dict[str, str]:
    """How a run ended and why, as its record tells it; MLflow's page of a run shows the note."""
    return {STATE_TAG: state} | ({REASON_TAG: reason, "mlflow.note.content": reason} if reason else {})


def reason_of(error: BaseException) -> str:
    """An exception in one line."""
    if isinstance(error, RakutenError):
        return error.problem
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the process the way Ctrl-C does, through whatever has to be put right."""

    def terminate(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def prepare_record(config: TrainConfig | DoctorConfig, console: Console) -> None:
    """Make sure that a run can be recorded, and that those before it are.

    A store that is away costs no run: it is told, and the record goes to disk until the store is back.

    Raises:
        RakutenError: the tracking store cannot be used, now or later; within seconds.
    """
    try:
        check_store(config.tracking)
    except Away as away:
        said = escape(f"{away.problem} now ({away.got})")
        console.print(f"[yellow]{said}: the record is kept on disk and delivered later[/yellow]")
        return
    _end_abandoned_runs(config, console)
    deliver_pending(config.tracking, config.outputs_dir, console)  # now it is known which of them are over


def _end_abandoned_runs(config: TrainConfig | DoctorConfig, console: Console) -> None:
    """Runs whose process vanished (kill -9, power cut) get the status that they could not set themselves."""
    for run in list(all_runs(config.outputs_dir)):
        if not run.is_abandoned:
            continue
        if not finish_run(config.tracking, run.run_id, run.tracking_id, "KILLED"):
            continue  # recorded in another store: a start that records there finds it
        run.with_state("killed")
        if not run.is_trial:  # those go on with their study
            console.print(f"[dim]run {run.run_id} had been killed; resume=true goes on with it[/dim]")
