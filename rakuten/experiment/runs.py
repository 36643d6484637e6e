"""Run folders: outputs/<run_id>/{bundle,evaluation,checkpoints}, who owns them, how they ended.

checkpoints/run.json says which process trains what; a process that is gone without a word left its run interrupted,
and `resume=true` goes on with it.
"""

import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

from rakuten.errors import RakutenError

STATE, CONFIG = "run.json", "config.yaml"  # in checkpoints/: what became of the run, and what it was told
PASSIVE = (
    "resume",
    "debug",
    "outputs_dir",
    "tags",
    "tracking",
    "bootstrap",
    "publish",
    "metrics",
)  # keys that change no weight
GROUP_TAG = "rakuten.group"  # tag of runs that one command started
_LET_GO_S = 30
State = Literal["running", "finished", "failed", "killed", "pruned"]


@dataclass(frozen=True)
class RunFolder:
    """One run on disk."""

    path: Path
    config_key: str  # equal for runs that would train the same
    state: State
    host: str
    pid: int
    pid_started: float  # of the process, so that a recycled pid is not taken for it
    uuid: str = ""  # the run's name wherever it is recorded, given here and not by MLflow, which may be away
    tracking_id: str | None = None
    group: str | None = None  # of the runs that were started by one command
    is_trial: bool = False  # of a study, which alone goes on with it
    result: dict[str, float] | None = None  # what the run's best model scores, once that is known
    reason: str | None = None  # why it was pruned or failed

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def bundle(self) -> Path:
        return self.path / "bundle"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def save(self) -> "RunFolder":
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        body = {key: value for key, value in asdict(self).items() if key != "path"}
        temporary = self.checkpoints / (STATE + ".tmp")
        temporary.write_text(json.dumps(body, indent=1), encoding="utf-8")
        temporary.replace(self.checkpoints / STATE)
        return self

    def with_state(self, state: State, reason: str | None = None) -> "RunFolder":
        return replace(self, state=state, reason=reason).save()

    def with_result(self, result: dict[str, float]) -> "RunFolder":
        return replace(self, result=result).save()

    def with_tracking(self, tracking_id: str | None) -> "RunFolder":
        return replace(self, tracking_id=tracking_id).save()

    @property
    def is_abandoned(self) -> bool:
        """Said to run, by a process of this machine that is gone."""
        return self.state == "running" and self.host == socket.gethostname() and not self._is_trained

    @property
    def is_owned(self) -> bool:
        """Said to run, by a process of this machine that does."""
        return self.state == "running" and self.host == socket.gethostname() and self._is_trained

    @property
    def _is_trained(self) -> bool:
        return process_start(self.pid) == self.pid_started


def new_run_id() -> str:
    """A name for a run; the random part keeps two runs of one second apart."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def create_run(outputs_dir: Path, config_key: str, group: str | None = None) -> RunFolder:
    """A new run folder."""
    path = outputs_dir / new_run_id()
    path.mkdir(parents=True, exist_ok=False)
    return claim(RunFolder(path, config_key, "running", "", 0, 0.0, str(uuid4()), group=group))


def open_trial(outputs_dir: Path, run_id: str, config_key: str, group: str) -> RunFolder:
    """The trial's run of this name as this process's own, made where there is none.

    One that is of another config is begun anew. Waits for a process that is being ended to let go of it.

    Raises:
        RakutenError: another process does not let go.
    """
    path = outputs_dir / run_id
    deadline = time.monotonic() + _LET_GO_S
    while (run := read_run(path)) is not None and run.is_owned and run.pid != os.getpid():
        if time.monotonic() > deadline:
            raise RakutenError(f"run {run_id} is being trained by process {run.pid}", fix="end that process")
        time.sleep(0.05)
    if run is not None and run.config_key != config_key:
        shutil.rmtree(path)
    if run is None or run.config_key != config_key:
        run = RunFolder(path, config_key, "running", "", 0, 0.0, str(uuid4()), group=group, is_trial=True)
    return claim(run) if run.state in ("running", "killed") else run


def claim(run: RunFolder) -> RunFolder:
    """The run as this process's own."""
    pid = os.getpid()
    started = process_start(pid) or 0.0
    return replace(run, state="running", host=socket.gethostname(), pid=pid, pid_started=started).save()


def all_runs(outputs_dir: Path) -> Iterator[RunFolder]:
    """Runs below `outputs_dir`, newest first; folders that are not ours or torn are passed over."""
    for path in sorted(outputs_dir.glob(f"*/checkpoints/{STATE}"), reverse=True):
        if (run := read_run(path.parents[1])) is not None:
            yield run


def read_run(path: Path) -> RunFolder | None:
    """The run in this folder; None where there is none that can be read."""
    try:
        body = json.loads((path / "checkpoints" / STATE).read_text(encoding="utf-8"))
        return RunFolder(path=path, **body)
    except (OSError, ValueError, TypeError):
        return None


def find_interrupted(outputs_dir: Path, config_key: str) -> RunFolder | None:
    """The newest run of this config that did not finish and that nobody is training; one with a checkpoint first."""
    runs = [
        run
        for run in all_runs(outputs_dir)
        if run.config_key == config_key
        and not run.is_trial
        and (run.state in ("killed", "failed") or run.is_abandoned)
    ]
    return next((run for run in runs if (run.checkpoints / "last.ckpt").is_file()), next(iter(runs), None))


def find_finished(outputs_dir: Path, config_key: str) -> RunFolder | None:
    """The newest run of this config that finished."""
    runs = (run for run in all_runs(outputs_dir) if run.config_key == config_key)
    return next((run for run in runs if run.state == "finished"), None)


def newest_bundle(outputs_dir: Path) -> Path:
    """The bundle of the newest run that has one.

    Raises:
        RakutenError: there is none.
    """
    for run in all_runs(outputs_dir):
        if (run.bundle / "bundle.json").is_file():
            return run.bundle
    raise RakutenError(
        f"no bundle below {outputs_dir}/",
        fix="train one with `python scripts/train.py`, or name one: bundle=PATH",
    )


def process_start(pid: int) -> float | None:
    """Start time of a live process in clock ticks since boot; None where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rsplit(")", 1)[1].split()
        return None if fields[0] == "Z" else float(fields[19])
    except (OSError, IndexError):
        return 0.0 if not Path("/proc").is_dir() and _is_alive(pid) else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
