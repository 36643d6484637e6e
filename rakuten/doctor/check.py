"""What a check is and says, and how many run side by side, each with a time limit of its own."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rakuten.errors import RakutenError
from rakuten.experiment.tracking.journal import without_password

LIMIT_S = 30  # what waits for a network gives up in seconds and says why: this is for what nobody thought of


class Severity(StrEnum):
    """From good to bad."""

    OK = "ok"
    SKIPPED = "skipped"  # nothing here needs it
    WARNING = "warning"  # works, or part of it, but not for long or not as it should
    ERROR = "error"


# Of the process, by its worst finding; 1 and 2 are those of every script's own mistakes.
EXIT_CODES = {Severity.OK: 0, Severity.SKIPPED: 0, Severity.WARNING: 10, Severity.ERROR: 20}


@dataclass(frozen=True)
class Finding:
    """What was found, and what mends it where that is not as it should be."""

    severity: Severity
    found: str
    cure: str | None = None


@dataclass(frozen=True)
class Check:
    """A question under the name that people and machines know it by."""

    name: str
    look: Callable[[], Finding]
    limit_s: float = LIMIT_S


@dataclass(frozen=True)
class Report:
    """What a visit ends with: what machines read, where they asked, and the process's exit code."""

    exit_code: int
    text: str | None = None


def ok(found: str) -> Finding:
    return Finding(Severity.OK, found)


def skipped(found: str, cure: str | None = None) -> Finding:
    return Finding(Severity.SKIPPED, found, cure)


def warning(found: str, cure: str) -> Finding:
    return Finding(Severity.WARNING, found, cure)


def error(found: str, cure: str) -> Finding:
    return Finding(Severity.ERROR, found, cure)


def run_checks(checks: Sequence[Check]) -> Iterator[tuple[str, Finding]]:
    """All at once, told in their order as soon as they are known. None waits for another, none raises."""
    started = time.monotonic()
    answers = [_start(check) for check in checks]
    for check, answer in zip(checks, answers, strict=True):
        try:
            yield check.name, answer.get(timeout=max(0.0, started + check.limit_s - time.monotonic()))
        except queue.Empty:
            told = f"no answer within {check.limit_s:g} s"
            yield check.name, error(told, "see whether a disk or a network that it needs hangs")


def _start(check: Check) -> "queue.SimpleQueue[Finding]":
    answer: queue.SimpleQueue[Finding] = queue.SimpleQueue()

    def work() -> None:
        try:
            answer.put(check.look())
        except Exception as raised:
            answer.put(_broken(raised))

    # A daemon: one that hangs must not keep the process.
    threading.Thread(target=work, name=check.name, daemon=True).start()
    return answer


def _broken(raised: Exception) -> Finding:
    """An exception as a finding; our own say what mends them."""
    if isinstance(raised, RakutenError):
        got = f" ({raised.got})" if raised.got is not None else ""
        return error(without_password(f"{raised.problem}{got}"), raised.fix or "see the README")
    lines = str(raised).strip().splitlines() or ["no message"]
    return error(
        without_password(f"the check itself failed: {type(raised).__name__}: {lines[0]}"),
        "tell us, with the output of `python scripts/doctor.py json=true`",
    )
