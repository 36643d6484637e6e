"""Is a photo readable? Told from its content alone; names prove nothing."""

import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import Path

import xxhash
from PIL import Image, UnidentifiedImageError
from rich.console import Console

from rakuten.config import Limits
from rakuten.data.pixels import FORMATS
from rakuten.data.progress import progress_bar

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_CHUNK = 64  # images a task: small enough for a smooth bar, large enough that queueing costs nothing


class ImageState(StrEnum):
    """What became of a product's photo: a stable name and a sentence. Only `OK` ones can be read."""

    sentence: str

    def __new__(cls, name: str, sentence: str = "") -> "ImageState":
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        return member

    OK = "ok", "decoded to its end"
    NONE = "none", "the product names no photo"
    MISSING = "missing", "no file there, or none that may be opened"
    EMPTY = "empty", "zero bytes"
    TRUNCATED = "truncated", "begins as an image and cannot be decoded to its end"
    NOT_AN_IMAGE = "not_an_image", "neither JPEG, PNG nor WebP"
    TOO_LARGE = "too_large", "above data.limits.image_bytes or image_pixels"


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """The state of a photo, and a hash of its bytes (0 where they were not read)."""

    state: ImageState
    digest: int


def check_image(path: Path, limits: Limits) -> ImageState:
    """State of the file at `path`. Never raises, whatever is there; decodes nothing above `limits`."""
    return _check(path, limits).state


def check_images(
    paths: Sequence[Path | None], limits: Limits, *, console: Console | None
) -> list[ImageCheck]:
    """Check every file in a pool of threads, in order; None stands for a product that names no photo.

    A bar is shown on `console` where it is a terminal.
    """
    chunks = [paths[at : at + _CHUNK] for at in range(0, len(paths), _CHUNK)]
    checks: list[ImageCheck] = []
    with (
        progress_bar(console, transient=True) as progress,
        warnings.catch_warnings(),
        ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 2)) as pool,
    ):
        # Here and not in the threads: the filters are the process's.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        task = progress.add_task("checking images", total=len(paths))
        for done in pool.map(lambda chunk: list(_check_all(chunk, limits)), chunks):
            checks += done
            progress.advance(task, len(done))
    return checks


def _check_all(paths: Iterable[Path | None], limits: Limits) -> Iterator[ImageCheck]:
    for path in paths:
        yield ImageCheck(ImageState.NONE, 0) if path is None else _check(path, limits)


def _check(path: Path, limits: Limits) -> ImageCheck:
    try:
        status = path.stat()
        # Before opening: to open a named pipe waits for ever.
        if not stat.S_ISREG(status.st_mode):
            return ImageCheck(ImageState.NOT_AN_IMAGE, 0)
        if status.st_size > limits.image_bytes:
            return ImageCheck(ImageState.TOO_LARGE, status.st_size)
        content = path.read_bytes()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return ImageCheck(ImageState.MISSING, 0)
    return ImageCheck(_content_state(content, limits), xxhash.xxh3_64_intdigest(content))


def _content_state(content: bytes, limits: Limits) -> ImageState:
    if not content:
        return ImageState.EMPTY
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > limits.image_pixels:
                return ImageState.TOO_LARGE
            # JPEG alone heeds this: an eighth of the size, every byte read all the same, and three times as fast.
            image.draft("RGB", (1, 1))
            image.load()
    except (*_BOMB, MemoryError):
        return ImageState.TOO_LARGE
    except UnidentifiedImageError:
        return ImageState.TRUNCATED if _looks_like_an_image(content) else ImageState.NOT_AN_IMAGE
    # Pillow's plugins raise anything on damaged input: OSError, SyntaxError, struct.error, ValueError, EOFError ...
    except Exception:
        return ImageState.TRUNCATED
    return ImageState.OK


def _looks_like_an_image(content: bytes) -> bool:
    return content.startswith(_MAGIC) or (content.startswith(b"RIFF") and content[8:12] == b"WEBP")
