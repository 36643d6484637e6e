"""The stages of dvc.yaml, one `dvc repro` each: DVC alone runs them, so that its lock is always true."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from rakuten.config import DagConfig
from rakuten.config_io import to_plain
from rakuten.errors import ConfigError, RakutenError

DAG, CHOICE = Path("dvc.yaml"), Path("conf/pipeline.yaml")
_SKIPPED = re.compile(r"^Stage '.*' (didn't change, skipping|is cached)", re.MULTILINE)
_DVC_ERROR = re.compile(r"^ERROR: failed to reproduce '[^']*': .* exited with (-?\d+)", re.MULTILINE)
_OUR_ERROR_LINES = 12


class StageError(RakutenError):
    """A stage failed; the message is its own."""

    def __init__(self, stage: str, said: str, exit_code: int):
        super().__init__(f"stage {stage} failed\n{said}" if said else f"stage {stage} failed")
        self.was_killed = (
            exit_code < 0 or exit_code > 128
        )  # by a signal, as the kernel does for want of memory
        self.exit_code = exit_code if 0 < exit_code < 128 else 1


@dataclass(frozen=True)
class Done:
    """What became of a stage: `ran`, or `current` where nothing that it depends on has changed."""

    stage: str
    state: str
    seconds: float


def require_dag(dag: DagConfig) -> None:
    """
    Raises:
        ConfigError: it is not the one that DVC will read from conf/pipeline.yaml.
    """
    own = yaml.safe_load(CHOICE.read_text(encoding="utf-8"))["dag"] if CHOICE.is_file() else None
    asked = to_plain(dag)
    if own is not None and own != asked:
        changed = ", ".join(f"dag.{name}" for name in asked if asked[name] != own.get(name))
        raise ConfigError(
            f"{changed} cannot be given to this command", fix=f"change it in {CHOICE}, where DVC reads it"
        )


def stage_names() -> list[str]:
    """The stages in the DAG's order, as dvc.yaml lists them.

    Raises:
        RakutenError: there is no dvc.yaml here.
    """
    if not DAG.is_file():
        raise RakutenError(f"there is no {DAG} here", fix="start it in the project's folder")
    return list(yaml.safe_load(DAG.read_text(encoding="utf-8"))["stages"])


def repro(stage: str, *, force: bool, show: Callable[[str], object]) -> bool:
    """Run one stage if it must; whether it did. What it says goes to `show` line by line.

    Raises:
        StageError: it failed, in its own words.
    """
    text, code = _dvc(["repro", "--single-item", *(["--force"] if force else []), stage], show)
    if code:
        raise _failure(stage, text, code)
    return not _SKIPPED.search(text)


def push(show: Callable[[str], object]) -> None:
    """Send what DVC tracks to its remote.

    Raises:
        StageError: no remote, or it does not answer.
    """
    text, code = _dvc(["push"], show)
    if code:
        raise _failure("push", text, code)


def _dvc(arguments: list[str], show: Callable[[str], object]) -> tuple[str, int]:
    # The stages' `python` is this one, whether or not its environment is active.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "true", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines = []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line)
            show(line.rstrip("\n"))
        return "".join(lines), process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _failure(stage: str, text: str, code: int) -> StageError:
    """Of all that was printed, what the stage itself said last."""
    found = _DVC_ERROR.search(text)
    own = text[: found.start()] if found else text
    lines = [
        line for line in own.splitlines() if line.strip() and not line.startswith(("> ", "Running stage"))
    ]
    return StageError(stage, "\n".join(lines[-_OUR_ERROR_LINES:]), int(found[1]) if found else code)
