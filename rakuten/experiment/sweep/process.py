"""The processes that trials run in: forked from a server that has the heavy imports behind it."""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from rakuten.experiment.sweep.trial import Job, Outcome, Report, run_trial
from rakuten.experiment.tracking.delivery import PRELOAD


class TrialProcess:
    """One process. `outcome` is what it said at its end, None where it was killed before."""

    def __init__(self, process: ForkServerProcess, pipe: Connection):
        self.process, self.pipe = process, pipe
        self.outcome: Outcome | None = None
        self._kills_before = _out_of_memory_kills()

    def hear(self) -> tuple[list[Report], bool]:
        """What it has said since, and whether it is over. Each report waits for `answer`."""
        reports = []
        try:
            while self.pipe.poll():
                message = self.pipe.recv()
                if isinstance(message, Outcome):
                    self.outcome = message
                else:
                    reports.append(message)
        except (EOFError, OSError):
            self.process.join()
            self.pipe.close()
            return reports, True
        return reports, False

    def answer(self, prune: bool) -> None:
        with suppress(OSError):  # it died while it waited
            self.pipe.send(prune)

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed some process for want of memory while this one ran, and this one was killed."""
        return self.process.exitcode == -signal.SIGKILL and _out_of_memory_kills() > self._kills_before

    @property
    def end(self) -> str:
        code = self.process.exitcode or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class TrialProcesses:
    """Starts them. Their server imports what they all need beside whatever goes on here meanwhile."""

    def __init__(self, *, tracked: bool):
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["__main__", "rakuten.experiment.train", *(PRELOAD if tracked else ())]
        )
        with _deaf_to_ctrl_c():
            forkserver.ensure_running()

    def start(self, job: Job) -> TrialProcess:
        here, there = self._context.Pipe()
        process = self._context.Process(target=run_trial, args=(job, there), name=f"trial-{job.trial.number}")
        with _deaf_to_ctrl_c():
            process.start()
        there.close()
        return TrialProcess(process, here)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """A terminal sends Ctrl-C to every process; it is for the sweep, so the server is born with it switched off."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _out_of_memory_kills() -> int:
    """Processes that this machine's kernel has ended for want of memory since it started."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
