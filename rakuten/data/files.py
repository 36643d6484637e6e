"""Files that are either wholly there or not there at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".partial"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; moved onto `path` when the block ends without an error.

    A process killed inside the block leaves `path` as it was, and at most a hidden `.<name>.*.partial` file.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=SUFFIX, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _settle(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(*paths: Path) -> None:
    """Delete what killed writers of `paths` left behind. Only while no other process writes them."""
    for path in paths:
        for leftover in path.parent.glob(f".{path.name}.*{SUFFIX}"):
            leftover.unlink(missing_ok=True)


def _settle(path: Path) -> None:
    """Bytes on disk before the name points to them: else a power cut leaves an empty file under it."""
    handle = os.open(path, os.O_RDWR)
    try:
        # mkstemp makes private files; give what a plain open() would have given.
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(handle, 0o666 & ~umask)
        os.fsync(handle)
    finally:
        os.close(handle)
