"""One trial of a study, in a process of its own: what it is given, what it says on its way, how it ends.

The process speaks to whoever sweeps alone, and over a pipe: neither the study's storage nor the tracking store going
away can stop it. It ends at once when the sweep's process is gone.
"""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from rakuten.config import TrainConfig
from rakuten.experiment.pruning import Trial


@dataclass(frozen=True)
class Job:
    """What a trial's process needs to know."""

    config: TrainConfig
    trial: Trial
    log: Path  # what the process prints
    gpu: int | None  # the one it is to use


@dataclass(frozen=True)
class Report:
    """The score of an epoch; answered with True where the trial is to be pruned."""

    epoch: int
    score: float
    spent: Mapping[str, float]  # train_s and epochs so far


@dataclass(frozen=True)
class Outcome:
    """How training ended. "memory": it did not fit, and may with smaller batches."""

    state: Literal["complete", "pruned", "failed", "memory"]
    values: Mapping[str, float]
    reason: str | None = None


def run_trial(job: Job, pipe: Connection) -> None:
    """The whole of a trial's process; says its Outcome over the pipe, unless it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches everybody; the sweep decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if job.gpu is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # of these, where they were chosen already
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[job.gpu] if visible else str(job.gpu)
    with job.log.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    faulthandler.enable()
    outcome = _outcome(job, pipe)
    with suppress(OSError):  # nobody sweeps any more; the run's own record says how it ended
        pipe.send(outcome)


def _outcome(job: Job, pipe: Connection) -> Outcome:
    import traceback

    from rich.console import Console

    from rakuten.errors import RakutenError
    from rakuten.experiment.ownership import reason_of
    from rakuten.experiment.pruning import Pruned
    from rakuten.experiment.train import train_trial

    spent: dict[str, float] = {}

    def report(epoch: int, score: float, now: Mapping[str, float]) -> bool:
        spent.update(now)
        try:
            pipe.send(Report(epoch, score, now))
            prune: bool = pipe.recv()
        except (EOFError, OSError):  # nobody sweeps any more: this run is interrupted, it has not failed
            os._exit(1)
        return prune

    try:
        return Outcome(
            "complete", train_trial(job.config, job.trial, report, Console(stderr=True, highlight=False))
        )
    except Pruned as pruned:
        return Outcome("pruned", pruned.spent, str(pruned))
    except Exception as error:
        if not isinstance(error, RakutenError):
            traceback.print_exc()
        return Outcome("memory" if is_out_of_memory(error) else "failed", spent, reason_of(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, on whatever device, or Python itself had no memory left; as raised, or as a run's noted end."""
    from rakuten.errors import RakutenError

    words = f"{type(error).__name__}: {error}".lower()
    signs = ("out of memory", "can't allocate memory", "not enough memory", "memoryerror")
    return isinstance(error, MemoryError | RuntimeError | RakutenError) and any(
        sign in words for sign in signs
    )


def halved(config: TrainConfig) -> TrainConfig:
    """The same config with half the token budget, and half the products a batch: photos have no tokens to count."""
    trainer = replace(  # type: ignore[type-var]
        config.trainer,
        token_budget=max(1, config.trainer.token_budget // 2),
        batch_size=max(1, config.trainer.batch_size // 2),
    )
    return replace(config, trainer=trainer)  # type: ignore[type-var]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
