"""Run folders: outputs/<run_id>/{bundle,evaluation,checkpoints}, who owns them, how they ended.

checkpoints/run.json says which process trains what; a process that is gone without a word left its run interrupted,
and `resume=true` goes on with it.
"""

import json
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from rakuten.errors import RakutenError

STATE = "run.json"
State = Literal["running", "finished", "failed", "killed"]


@dataclass(frozen=True)
class RunFolder:
    """One run on disk."""

    path: Path
    config_key: str  # equal for runs that would train the same
    state: State
    host: str
    pid: int
    pid_started: float  # of the process, so that a recycled pid is not taken for it
    tracking_id: str | None = None

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

    def with_state(self, state: State) -> "RunFolder":
        return replace(self, state=state).save()

    def with_tracking(self, tracking_id: str | None) -> "RunFolder":
        return replace(self, tracking_id=tracking_id).save()

    @property
    def is_abandoned(self) -> bool:
        """Said to run, by a process of this machine that is gone."""
        return (
            self.state == "running"
            and self.host == socket.gethostname()
            and _process_start(self.pid) != self.pid_started
        )


def create_run(outputs_dir: Path, config_key: str) -> RunFolder:
    """A new run folder; the random part keeps two runs of one second apart."""
    run_id = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    path = outputs_dir / run_id
    path.mkdir(parents=True, exist_ok=False)
    return claim(RunFolder(path, config_key, "running", "", 0, 0.0))


def claim(run: RunFolder) -> RunFolder:
    """The run as this process's own."""
    pid = os.getpid()
    started = _process_start(pid) or 0.0
    return replace(run, state="running", host=socket.gethostname(), pid=pid, pid_started=started).save()


def all_runs(outputs_dir: Path) -> Iterator[RunFolder]:
    """Runs below `outputs_dir`, newest first; folders that are not ours or torn are passed over."""
    for path in sorted(outputs_dir.glob(f"*/checkpoints/{STATE}"), reverse=True):
        try:
            yield RunFolder(path=path.parent.parent, **json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            continue


def find_interrupted(outputs_dir: Path, config_key: str) -> RunFolder | None:
    """The newest run of this config that did not finish and that nobody is training; one with a checkpoint first."""
    runs = [
        run
        for run in all_runs(outputs_dir)
        if run.config_key == config_key and (run.state in ("killed", "failed") or run.is_abandoned)
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


def _process_start(pid: int) -> float | None:
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
