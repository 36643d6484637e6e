"""A run that is told through its journal, and the thread that brings the journal to MLflow."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from rich.markup import escape

from rakuten.errors import RakutenError
from rakuten.experiment.tracking.journal import Journal, Op, Status, left_behind, now_ms

FLUSH_S = 20  # how long a run that has ended waits for its record to arrive
MAX_PARAM_CHARS = 500
_PAUSES_S = 1, 30  # between attempts during an outage, doubling


class Refused(RakutenError):  # noqa: N818 - a no, not a fault
    """No outage: MLflow will not take this at another time either."""


class Store(Protocol):
    """What brings ops to MLflow, and learns there which run they are of."""

    run_id: str | None

    def __call__(self, ops: list[Op]) -> None:
        """
        Raises:
            Refused: this will not be taken at another time either.
            Exception: an outage.
        """


class TrackedRun(Protocol):
    """One recorded run."""

    @property
    def run_id(self) -> str | None: ...

    def log_params(self, params: Mapping[str, object]) -> None: ...
    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None: ...
    def log_artifacts(self, folder: Path, name: str) -> None: ...
    def log_text(self, text: str, name: str) -> None: ...
    def set_tags(self, tags: Mapping[str, str]) -> None: ...
    def finish(self, status: Status) -> None: ...


class UntrackedRun:
    """tracking=off: nothing is recorded but what the run's folder holds."""

    run_id = None

    def log_params(self, params: Mapping[str, object]) -> None: ...
    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None: ...
    def log_artifacts(self, folder: Path, name: str) -> None: ...
    def log_text(self, text: str, name: str) -> None: ...
    def set_tags(self, tags: Mapping[str, str]) -> None: ...
    def finish(self, status: Status) -> None: ...


class JournaledRun:
    """A run told through its journal: nothing it says waits for MLflow, and no outage reaches who says it."""

    def __init__(self, journal: Journal, store: Store, *, is_away: bool):
        self._journal, self._store = journal, store
        self._courier = Courier(journal, store, is_away=is_away)

    @property
    def run_id(self) -> str | None:
        return self._store.run_id

    def log_params(self, params: Mapping[str, object]) -> None:
        self._journal.append("params", params={k: str(v)[:MAX_PARAM_CHARS] for k, v in params.items()})

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        values = {k: float(v) for k, v in metrics.items()}
        self._journal.append("metrics", values=values, step=step, time=now_ms())

    def log_artifacts(self, folder: Path, name: str) -> None:
        self._journal.append("artifacts", folder=str(folder.absolute()), name=name)

    def log_text(self, text: str, name: str) -> None:
        self._journal.append("text", text=text, name=name)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._journal.append("tags", tags=dict(tags))

    def finish(self, status: Status) -> None:
        """Waits for MLflow, but not for long."""
        self._journal.append("finish", status=status, time=now_ms())
        self._flush()

    def close(self) -> None:
        """As `finish`, of a run whose end was told before."""
        self._journal.append("close")
        self._flush()

    def _flush(self) -> None:
        if not self._courier.flush(FLUSH_S):
            path = escape(str(self._journal.path))
            self._journal.tell(
                f"[yellow]not all of the run is in MLflow: the next run delivers {path}[/yellow]"
            )


def deliver(journal: Journal, store: Store) -> None:
    """Send all that is pending, in order. What is refused is told and left out, the rest goes on.

    Raises:
        Refused: the run itself is.
        Exception: an outage; what has not arrived is still pending.
    """
    while ops := journal.next_call():
        _send(ops, store, journal)
        journal.arrived(ops)


def _send(ops: list[Op], store: Store, journal: Journal) -> None:
    try:
        store(ops)
    except Refused as refusal:
        if ops[0]["op"] == "start":  # nowhere to send the rest
            raise
        if len(ops) > 1:  # one of them is to blame
            for op in ops:
                _send([op], store, journal)
            return
        name = ops[0].get("name") or ", ".join(ops[0].get("values") or ops[0].get("params") or ())
        what = escape(f"{ops[0]['op']} {name}: {refusal.got}")
        journal.tell(f"[yellow]MLflow does not take {what}[/yellow]")


def deliver_left(
    outputs_dir: Path, uri: str, experiment: str, new_store: Callable[[], Store], say: Callable[[str], object]
) -> int:
    """Deliver what processes that are gone left behind, up to the first outage; the number of their journals."""
    num_delivered = 0
    for journal in left_behind(outputs_dir, uri, experiment, say):
        try:
            deliver(journal, new_store())
        except Refused as refusal:
            journal.tell(f"[yellow]MLflow does not take {escape(f'{journal.path}: {refusal.got}')}[/yellow]")
        except Exception:  # another time
            break
        else:
            num_delivered += 1
            if journal.finished:
                journal.remove()
    return num_delivered


class Courier:
    """A thread that delivers a journal while its run goes on, patient with outages; ends after the `finish`."""

    def __init__(self, journal: Journal, store: Store, *, is_away: bool):
        self._journal, self._store, self._is_away = journal, store, is_away
        self._hurry = threading.Event()
        self._gives_up = False
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def flush(self, timeout_s: float) -> bool:
        """Whether all has arrived, `finish` included; the thread ends either way, at its next failure at the latest."""
        self._hurry.set()
        self._thread.join(timeout_s)
        self._gives_up = True
        self._hurry.set()
        return not self._thread.is_alive()

    def _work(self) -> None:
        pause_s, longest_s = _PAUSES_S
        while True:
            try:
                deliver(self._journal, self._store)
                if self._journal.finished and not self._journal.pending:
                    self._journal.remove()
                    return
                pause_s, self._is_away = _PAUSES_S[0], False
                self._journal.wait()
            except Exception as error:
                if self._gives_up:
                    self._journal.close()
                    return
                self._tell(error)
                hurried = self._hurry.wait(pause_s)
                self._hurry.clear()
                pause_s = _PAUSES_S[0] if hurried else min(2 * pause_s, longest_s)

    def _tell(self, error: Exception) -> None:
        if not self._is_away:
            self._journal.tell(outage(error, self._journal.path))
        self._is_away = True


def outage(error: Exception, path: Path) -> str:
    reason = f"{error.problem} ({error.got})" if isinstance(error, RakutenError) else repr(error)
    return f"[yellow]{escape(reason)}: the record is kept in {escape(str(path))} and delivered later[/yellow]"
