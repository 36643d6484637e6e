"""Workers of one service swap together: each says when it is ready, and all change at one instant.

Votes are files in a folder that the workers' common parent names. A client that asks worker after worker sees the new
version and never the old one again, but for what lies between two event loops that were told the same instant.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rakuten.serve.follow.place import Found

LOOK_S: Final = 0.02  # how often the others' votes are read
AHEAD_S: Final = 0.1  # from the last vote to the swap: time for everyone to read of it
PATIENCE_S: Final = 120.0  # for workers that live and say nothing
_READY, _REFUSED = "ready", "refused"


class Group:
    """The seat of this worker, or of the process `pid`, among the children of its parent."""

    def __init__(self, folder: Path | None = None, pid: int | None = None):
        self._folder = folder or _folder_of_parent()
        self._folder.mkdir(exist_ok=True)
        self._me = str(pid or os.getpid())
        self._write(f"worker-{self._me}", "")

    def served(self) -> tuple[Found, Path] | None:
        """What the others serve, for a worker that comes in place of one that died."""
        try:
            said = json.loads((self._folder / "served.json").read_text(encoding="utf-8"))
            return Found(**said["found"]), Path(said["folder"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    async def agree(self, found: Found) -> bool:
        """Once this worker is ready: True at the instant when all swap, False where another one has refused."""
        name = _name(found)
        self._vote(found, _READY)
        deadline = time.monotonic() + PATIENCE_S
        while (instant := self._instant(name)) is None:
            votes = self._votes(name)
            if _REFUSED in votes:
                return False
            if None not in votes or time.monotonic() > deadline:
                self._set_instant(name)
            else:
                await asyncio.sleep(LOOK_S)
        await asyncio.sleep(max(0.0, instant - time.time()))
        return True

    def refuse(self, found: Found) -> None:
        self._vote(found, _REFUSED)

    def swapped(self, found: Found, folder: Path) -> None:
        """What answers now; what was said of others is forgotten, for they may come back."""
        self._vote(found, _READY)
        self._write("served.json", json.dumps({"found": asdict(found), "folder": str(folder.absolute())}))
        name = _name(found)
        for path in (*self._folder.glob(f"vote-*-{self._me}"), *self._folder.glob("swap-*")):
            if f"-{name}" not in path.name:
                path.unlink(missing_ok=True)

    def _vote(self, found: Found, vote: str) -> None:
        self._write(f"vote-{_name(found)}-{self._me}", vote)

    def _votes(self, name: str) -> list[str | None]:
        """Of each worker that lives, its vote; None where there is none yet."""
        found: list[str | None] = []
        for worker in self._folder.glob("worker-*"):
            pid = worker.name.rpartition("-")[2]
            if not _lives(int(pid)):
                worker.unlink(missing_ok=True)
                continue
            try:
                found.append((self._folder / f"vote-{name}-{pid}").read_text())
            except OSError:
                found.append(None)
        return found

    def _instant(self, name: str) -> float | None:
        try:
            return float((self._folder / f"swap-{name}").read_text())
        except (OSError, ValueError):
            return None

    def _set_instant(self, name: str) -> None:
        """Whoever comes first says when."""
        path = self._folder / f"swap-{name}"
        partial = self._folder / f".swap-{self._me}"
        partial.write_text(repr(time.time() + AHEAD_S))
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
        partial.unlink()

    def _write(self, name: str, text: str) -> None:
        partial = self._folder / f".{name}-{self._me}"
        partial.write_text(text, encoding="utf-8")
        partial.replace(self._folder / name)


def _name(found: Found) -> str:
    return hashlib.sha256(found.key.encode()).hexdigest()[:16]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _folder_of_parent() -> Path:
    """Of this parent and no earlier process of the same number; what parents left that are gone is thrown away."""
    parent = os.getppid()
    try:
        since = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        since = "0"
    groups = Path(tempfile.gettempdir()) / f"rakuten-serve-{os.getuid()}"
    groups.mkdir(mode=0o700, exist_ok=True)
    found = groups.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(
            f"{groups} could be written to by somebody else: what lies there says what is served"
        )
    for folder in groups.glob("[0-9]*-[0-9]*"):
        if not _lives(int(folder.name.partition("-")[0])):
            shutil.rmtree(folder, ignore_errors=True)
    return groups / f"{parent}-{since}"
