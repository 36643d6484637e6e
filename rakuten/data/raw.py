"""The raw tables and the image naming rule: files -> records, none of them lost.

A row that cannot be read is a record too, with a reason and its text as it stands in the file.
"""

import csv
import difflib
import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, TextIO

from rakuten.config import DataConfig, Files
from rakuten.data.encoding import check_encoding, opened
from rakuten.errors import DataError

# A quote that never closes would make the rest of the file one field: what is longer than this is not a row.
MAX_RECORD_CHARS = 16 * 2**20
# Each long search for a closing quote that finds none halves the next one, down to this: a file full of unmatched
# quotes is then read in seconds, not in the square of its length.
MIN_LOOK_AHEAD_CHARS = 16 * 2**10
_SURROGATE = re.compile("[\ud800-\udfff]")


class Reason(StrEnum):
    """Why a row is set aside: a stable name for machines and a sentence for people.

    The first four are the reader's, the others those of `rakuten.data.validate`.
    """

    sentence: str

    def __new__(cls, name: str, sentence: str = "") -> "Reason":
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        return member

    UNREADABLE_ROW = "unreadable_row", "not a CSV row: quotes do not match up"
    WRONG_FIELD_COUNT = "wrong_field_count", "more or fewer fields than the header"
    UNDECODABLE = "undecodable", "bytes that are not text in the file's encoding"
    NUL_BYTE = "nul_byte", "holds NUL bytes: binary damage"
    EMPTY_INDEX = "empty_index", "no index to join by"
    BAD_INDEX = "bad_index", "index has other characters than letters, digits, _ and -"
    DUPLICATE_INDEX = "duplicate_index", "index was used by an earlier row, which is the one kept"
    EMPTY_PRODUCTID = "empty_productid", "no productid"
    BAD_PRODUCTID = "bad_productid", "productid has other characters than letters, digits, _ and -"
    DUPLICATE_PRODUCTID = "duplicate_productid", "productid was used by an earlier row, which is the one kept"
    BAD_IMAGEID = "bad_imageid", "imageid has other characters than letters, digits, _ and -"
    PRODUCT_WITHOUT_LABEL = "product_without_label", "its index is not in the label file"
    LABEL_WITHOUT_PRODUCT = "label_without_product", "its index is not in the product file"
    EMPTY_LABEL = "empty_label", "no category code"
    UNKNOWN_CODE = "unknown_code", "category code is not among data.codes"
    CONFLICTING_LABEL = "conflicting_label", "several label rows that disagree"
    NO_CONTENT = "no_content", "neither text nor a readable image"


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a table.

    `line` is the physical line it starts on, from 1; `raw` the row as it stands in the file, without its line
    end, undecodable bytes as lone surrogates (PEP 383); `fields` its values by this project's names. Where
    `reason` is set, `fields` are what could be made out, for reference only.
    """

    line: int
    raw: str
    fields: Mapping[str, str]
    reason: Reason | None = None
    detail: str = ""


def find_table(config: DataConfig, table: Literal["x_train", "y_train", "x_test"]) -> Path:
    """The first of the names in `data.files.<table>` that is a file below `data.root`.

    Raises:
        DataError: no such folder, or none of the names is there.
    """
    names: list[str] = getattr(config.files, table)
    if not config.root.is_dir():
        raise DataError(
            f"the catalogue's folder {config.root} does not exist",
            expected=f"a folder with {names[0]}",
            fix="set data.root=PATH/TO/CATALOGUE",
        )
    for name in names:
        if (config.root / name).is_file():
            return config.root / name
    raise DataError(
        f"{table} is missing from {config.root}",
        expected=" or ".join(names),
        got=", ".join(sorted(path.name for path in config.root.iterdir())[:12]) or "an empty folder",
        fix=f"put it there, or name your file under files: {table}: in conf/data/{config.name}.yaml",
    )


def image_path(folder: Path, files: Files, imageid: str, productid: str) -> Path:
    """Where the photo of a product belongs. The ids must have passed `rakuten.data.validate.is_id`."""
    return folder / files.image_name.format(imageid=imageid, productid=productid)


def read_table(
    path: Path, columns: Mapping[str, str], encoding: str, *, optional: Collection[str] = ()
) -> Iterator[Record]:
    """Rows of a CSV file one after the other, in constant memory; every row comes out, readable or not.

    `columns` maps this project's names to the file's headers. Fields in `optional` are "" where the file has no
    such column. Empty lines are no rows. The file is looked through once for its encoding before this returns.

    Raises:
        DataError: no such file, empty, no rows, not CSV, in another encoding as a whole, or without a column.
    """
    check_encoding(path, encoding)
    with opened(path, encoding) as stream:
        header = _next_row(_Lines(stream))
    if header is None or header.cells is None:
        raise DataError(
            f"{path} {'is empty' if header is None else 'has no readable header'}",
            expected="a header line: " + ",".join(columns.values()),
            got=None if header is None else _clip(header.raw),
        )
    positions = _find_columns(path, header.cells, columns, optional)
    return _records(path, encoding, positions, len(header.cells))


def _find_columns(
    path: Path, header: Sequence[str], columns: Mapping[str, str], optional: Collection[str]
) -> dict[str, int | None]:
    wanted = [name for field, name in columns.items() if field not in optional or name in header]
    wrong = [name for name in wanted if header.count(name) != 1]
    if not wrong:
        return {field: header.index(name) if name in header else None for field, name in columns.items()}
    lower = {name.lower().strip(): name for name in header}
    near = {name: difflib.get_close_matches(name.lower(), lower, n=1) for name in wrong}
    hints = [f"{name!r} (nearest: {lower[hit[0]]!r})" if hit else repr(name) for name, hit in near.items()]
    hint = "map them under columns: in the catalogue's file conf/data/<name>.yaml"
    if len(header) == 1 and (other := re.search("[;\t|]", header[0])):
        hint = f"save it with commas: its fields seem to be separated by {other[0]!r}"
    raise DataError(
        f"{path} has no column, or more than one, called {', '.join(hints)}",
        expected=", ".join(map(repr, columns.values())),
        got=_clip(", ".join(map(repr, header))),
        fix=hint,
    )


def _records(path: Path, encoding: str, positions: Mapping[str, int | None], width: int) -> Iterator[Record]:
    num_rows = 0
    with opened(path, encoding) as stream:
        lines = _Lines(stream)
        _next_row(lines)
        while (row := _next_row(lines, width)) is not None:
            num_rows += 1
            cells = _salvage(row.raw) if row.cells is None else row.cells
            fields = {
                name: cells[at] if at is not None and at < len(cells) else ""
                for name, at in positions.items()
            }
            yield Record(row.line, row.raw, fields, row.reason, row.detail)
    if num_rows == 0:
        raise DataError(f"{path} has a header and no rows", expected="at least one row below the header")


class _Lines:
    """Physical lines that can be handed back."""

    def __init__(self, stream: TextIO):
        self.number = 0  # of the line last taken, from 1
        self.look_ahead_chars = MAX_RECORD_CHARS  # how far a row may reach
        self._stream = stream
        self._returned: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._stream)
        self.number += 1
        return line

    def hand_back(self, lines: Sequence[str]) -> None:
        self._returned.extendleft(reversed(lines))
        self.number -= len(lines)


@dataclass(slots=True)
class _Row:
    line: int
    raw: str
    cells: list[str] | None  # None where it does not parse
    reason: Reason | None = None
    detail: str = ""


def _next_row(lines: _Lines, width: int | None = None) -> _Row | None:
    """The next row that is not empty, None at the end of the file.

    What spans several lines and then turns out wrong is one bad line, and reading goes on with the line after
    it: an unmatched quote costs its own row, not those that follow.
    """
    while True:
        taken: list[str] = []
        first = lines.number + 1
        cells, detail = _parse(lines, taken)
        if not taken:
            return None
        if cells is not None and not cells:
            continue
        if cells is None or (len(taken) > 1 and width is not None and len(cells) != width):
            lines.hand_back(taken[1:])
            detail = detail or f"spans {len(taken)} lines and has {len(cells or [])} fields, expected {width}"
            return _Row(first, taken[0].rstrip("\r\n"), None, Reason.UNREADABLE_ROW, detail)
        raw = "".join(taken).removesuffix("\n").removesuffix("\r")
        return _Row(first, raw, cells, *_fault(raw, len(cells), width))


def _fault(raw: str, num_cells: int, width: int | None) -> tuple[Reason | None, str]:
    if "\0" in raw:
        return Reason.NUL_BYTE, f"at character {raw.index(chr(0)) + 1}"
    if not raw.isascii() and (bad := _SURROGATE.search(raw)):
        return Reason.UNDECODABLE, f"byte 0x{ord(bad[0]) & 0xFF:02X} at character {bad.start() + 1}"
    if width is not None and num_cells != width:
        return Reason.WRONG_FIELD_COUNT, f"{num_cells} fields, expected {width}"
    return None, ""


def _parse(lines: _Lines, taken: list[str]) -> tuple[list[str] | None, str]:
    """Cells of the next row, or None and what is wrong; `taken` receives the lines it was read from."""

    def pull() -> Iterator[str]:
        num_chars = 0
        for line in lines:
            taken.append(line)
            num_chars += len(line)
            yield line
            if num_chars > lines.look_ahead_chars:
                return

    csv.field_size_limit(MAX_RECORD_CHARS * 2)
    try:
        return next(csv.reader(pull(), strict=True), []), ""
    except csv.Error as error:
        if sum(map(len, taken)) > MIN_LOOK_AHEAD_CHARS:
            lines.look_ahead_chars = max(MIN_LOOK_AHEAD_CHARS, lines.look_ahead_chars // 2)
        return None, str(error)


def _salvage(raw: str) -> list[str]:
    try:
        return next(csv.reader([raw]), [])
    except csv.Error:
        return raw.split(",")


def _clip(text: str, width: int = 200) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
