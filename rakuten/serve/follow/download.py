"""A folder from elsewhere -> a folder on this machine: bounded, with safe names, whole or not at all."""

import fcntl
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from rakuten.errors import BundleError, RakutenError

MAX_FILES: Final = 200
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_SPARE_BYTES: Final = 100_000_000  # left on the disk


@dataclass(frozen=True)
class Entry:
    """A file that the source lists; its size may be untrue."""

    name: str  # below the bundle's folder, with slashes
    num_bytes: int


class Source(Protocol):
    """Where it comes from; raises what its own errors are."""

    def entries(self) -> Iterator[Entry]: ...

    def chunks(self, name: str) -> Iterator[bytes]: ...


Check = Callable[[Path], object]  # raises RakutenError where a folder is not whole


def keep(parts: Mapping[str, Source], folder: Path, check: Check, max_bytes: int) -> None:
    """Each part's files in a folder of its name below `folder`, checked together; none for a part that has no files.

    What is there and whole stays, and nothing is asked for. Other processes that want the same wait meanwhile.

    Raises:
        BundleError: too large, or with a name that is none.
        RakutenError: what `check` raises.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent):
        if _is_whole(folder, check):
            return
        shutil.rmtree(folder, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            for name, source in parts.items():
                max_bytes -= _fetch(source, partial / name, max_bytes)
            check(partial)
            partial.chmod(0o755)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _fetch(source: Source, folder: Path, max_bytes: int) -> int:
    """How many bytes there are."""
    entries = _checked(source.entries(), max_bytes)
    free = shutil.disk_usage(folder.parent).free - _SPARE_BYTES
    listed = sum(entry.num_bytes for entry in entries)
    if listed > free:
        raise BundleError(
            "the disk has no room for what is served", expected=f"{listed:,} bytes", got=f"{free:,}"
        )
    fetched = 0
    for entry in entries:
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in source.chunks(entry.name):
                fetched += len(chunk)
                if fetched > max_bytes:
                    raise _too_large(max_bytes)
                file.write(chunk)
    return fetched


def _checked(entries: Iterable[Entry], max_bytes: int) -> list[Entry]:
    found: list[Entry] = []
    for entry in entries:
        if not all(_PART.fullmatch(part) for part in entry.name.split("/")):
            raise BundleError("what is served has a file whose name is none", got=repr(entry.name[:200]))
        found.append(entry)
        if len(found) > MAX_FILES:
            raise BundleError("what is served has too many files", expected=f"at most {MAX_FILES}")
    if sum(entry.num_bytes for entry in found) > max_bytes:
        raise _too_large(max_bytes)
    return found


def _too_large(max_bytes: int) -> BundleError:
    return BundleError(
        "what is served is too large", expected=f"at most {max_bytes:,} bytes", fix="raise max_bundle_bytes"
    )


def _is_whole(folder: Path, check: Check) -> bool:
    if not folder.is_dir():
        return False
    try:
        check(folder)
    except (RakutenError, OSError):
        return False
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
