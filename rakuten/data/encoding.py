"""Is a text file in the encoding that its config says? Told before a row is parsed."""

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rakuten.errors import DataError

_BOMS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_OTHER_FORMATS = {b"PK\x03\x04": "a zip or Excel file", b"\x1f\x8b": "a gzip file", b"PAR1": "a Parquet file"}


def check_encoding(path: Path, encoding: str) -> None:
    """Refuse a file that as a whole is in another encoding than `encoding`; a few bad rows pass.

    As a whole: of the lines with bytes beyond ASCII fewer than half can be decoded, and those that cannot are more
    than one line in twenty. Fewer may be damage, and are left to be set aside one by one.

    Raises:
        DataError: naming the first such line and the likely encoding.
    """
    codec = _codec(encoding)
    with _readable(path, encoding):
        with path.open("rb") as stream:
            head = stream.read(4096)
        kind = next((kind for magic, kind in _OTHER_FORMATS.items() if head.startswith(magic)), None)
        if kind:
            raise DataError(f"{path} is {kind}", expected="a CSV file", fix="export or unpack it as CSV")
        if codec.startswith(("utf-16", "utf-32", "utf_16", "utf_32")):
            return
        # Latin text in UTF-16 without a mark is half NUL bytes; binary damage seldom comes so thick.
        wide = next((name for bom, name in _BOMS.items() if head.startswith(bom)), None)
        if wide or head.count(0) * 4 > len(head):
            raise _wrong_encoding(path, encoding, 1, wide or "utf-16")
        _check_lines(path, encoding, codec)


@contextmanager
def opened(path: Path, encoding: str) -> Iterator[TextIO]:
    """`path` as lines that end at \\n alone, a leading mark skipped, undecodable bytes as lone surrogates.

    Raises:
        DataError: the file cannot be opened, or its encoding lost its thread (only UTF-16 and the like can).
    """
    codec = _codec(encoding)
    with (
        _readable(path, encoding),
        path.open(encoding=codec, errors="surrogateescape", newline="\n") as stream,
    ):
        yield stream


def _check_lines(path: Path, encoding: str, codec: str) -> None:
    number = num_beyond = num_decoded = num_utf8 = first_bad = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.isascii():
                continue
            num_beyond += 1
            decoded, utf8 = _decodes(line, codec), _decodes(line, "utf-8")
            num_decoded, num_utf8 = num_decoded + decoded, num_utf8 + utf8
            first_bad = first_bad or (0 if decoded else number)
    if num_decoded * 2 < num_beyond and (num_beyond - num_decoded) * 20 > number:
        raise _wrong_encoding(path, encoding, first_bad, "cp1252" if codec == "utf-8-sig" else "utf-8")
    # Text in a one-byte encoding is next to never valid UTF-8 by chance; the reverse mistake always "works".
    if codec != "utf-8-sig" and num_utf8 == num_beyond >= 3:
        raise _wrong_encoding(path, encoding, 1, "utf-8")


def _decodes(line: bytes, codec: str) -> bool:
    try:
        line.decode(codec)
    except UnicodeError:
        return False
    return True


def _wrong_encoding(path: Path, encoding: str, line: int, likely: str) -> DataError:
    return DataError(
        f"{path} is not in the encoding {encoding} (first seen in line {line})",
        expected=f"text in {encoding}, as data.encoding says",
        got=f"bytes that look like {likely}",
        fix=f"set data.encoding={likely}, or save the file again as UTF-8",
    )


def _codec(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        "a".encode(name).decode(name)
    except (LookupError, ValueError) as error:
        raise DataError(
            f"data.encoding: no text encoding is called {encoding!r}",
            expected="a name that Python knows, such as utf-8, cp1252 or utf-16",
        ) from error
    return "utf-8-sig" if name == "utf-8" else name


@contextmanager
def _readable(path: Path, encoding: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read", got=error.strerror or error) from error
    except UnicodeError as error:
        raise DataError(
            f"{path} cannot be read in the encoding {encoding}",
            got=error,
            fix="set data.encoding to the file's encoding, or save it again as UTF-8",
        ) from error
