"""Journals on disk: what is in one survives its process, and goes to the database later if not now.

A file belongs to the process that holds its lock, which the system takes back however the process ends. What nobody
holds is anybody's to deliver. Delivered twice is the same as once: rows have ids.
"""

import fcntl
import os
import threading
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Final

from rakuten.errors import RakutenError
from rakuten.monitor.tables import SCHEMA

SUFFIX: Final = f".v{SCHEMA}.journal"
CHUNK_BYTES: Final = 1 << 18  # read at once; a single line may be longer


class Spool:
    """A journal file and how much of it has been delivered. One thread appends, another delivers."""

    def __init__(self, path: Path, fd: int):
        self.path, self._fd = path, fd
        self._lock = threading.Lock()
        self._delivered = 0
        self._size = _whole(fd)  # after a kill the last line may be torn

    @property
    def pending(self) -> bool:
        return self._delivered < self._size

    @property
    def size_bytes(self) -> int:
        return self._size

    def append(self, lines: bytes) -> None:
        """All of it on disk, or an OSError and nothing of it counts."""
        with self._lock:
            at = self._size
            view = memoryview(lines)
            try:
                while view:
                    written = os.pwrite(self._fd, view, at)
                    view, at = view[written:], at + written
                os.fsync(self._fd)
            except OSError:
                os.ftruncate(self._fd, self._size)
                raise
            self._size = at

    def next(self, max_lines: int) -> tuple[list[bytes], int]:
        """Lines that are to be delivered, oldest first, and where they end."""
        with self._lock:
            start, room = self._delivered, self._size - self._delivered
        chunk = os.pread(self._fd, min(room, CHUNK_BYTES), start)
        while chunk and b"\n" not in chunk:
            more = os.pread(self._fd, min(room - len(chunk), CHUNK_BYTES), start + len(chunk))
            assert more, "a journal without an end"
            chunk += more
        lines = chunk[: chunk.rfind(b"\n") + 1].splitlines(keepends=True)[:max_lines]
        return lines, start + sum(map(len, lines))

    def delivered(self, end: int) -> None:
        with self._lock:
            self._delivered = end
            if end == self._size:
                os.ftruncate(self._fd, 0)
                self._delivered = self._size = 0

    def close(self) -> None:
        """An empty one goes, another is left to whoever comes next."""
        with self._lock:
            if not self.pending:
                self.path.unlink(missing_ok=True)
            os.close(self._fd)


def new_spool(folder: Path) -> Spool:
    """
    Raises:
        RakutenError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            if _take(fd):  # else another process took it for an orphan and is about to remove it
                _settle(folder)
                return Spool(path, fd)
            os.close(fd)
    except OSError as error:
        raise RakutenError(
            f"the inference log cannot be kept in {folder}",
            got=error.strerror or error,
            fix="choose a folder that the service may write to",
        ) from error


def orphans(folder: Path) -> Generator[Spool]:
    """Journals whose processes are gone; each is ours until the next one is asked for."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            fd = os.open(path, os.O_RDWR)
        except OSError:  # gone meanwhile, or not ours
            continue
        if not _take(fd):
            os.close(fd)
            continue
        spool = Spool(path, fd)
        try:
            yield spool
        finally:
            spool.close()


def used_bytes(folder: Path) -> int:
    """On disk, by all journals of a folder."""
    total = 0
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _settle(folder: Path) -> None:
    """A file whose name is not on the disk is none after a power cut, whatever of it is."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _take(fd: int) -> bool:
    """Whether the file is ours, and still has its name."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(fd).st_nlink > 0


def _whole(fd: int) -> int:
    """Bytes up to the last line's end."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - CHUNK_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
