"""The rules that a product row must keep. Good rows pass; bad ones come back with a reason."""

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from rakuten.data.labels import LabelSet
from rakuten.data.raw import Reason, Record

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TAG = re.compile(r"<[^<>]*>")


def is_id(text: str) -> bool:
    """Whether `text` can be an id: it becomes part of file names, so nothing else gets through."""
    return _ID.fullmatch(text) is not None


def has_text(text: str) -> bool:
    """Whether anything visible is left of `text` without its tags and entities."""
    return any(char.isprintable() and not char.isspace() for char in html.unescape(_TAG.sub(" ", text)))


class LabelRows:
    """The rows of the label file, by the index that they are joined by.

    `loose` holds those without a usable index, each with its reason. A row that cannot be read counts under the
    index that can still be made out, so that a product and its damaged label are told as one fault.
    """

    def __init__(self, records: Iterable[Record], labels: LabelSet):
        self.num_rows = 0
        self.loose: list[Record] = []
        self._labels = labels
        self._by_index: dict[str, list[Record]] = {}
        for record in records:
            self._add(record)

    def _add(self, record: Record) -> None:
        self.num_rows += 1
        index = record.fields["index"]
        if is_id(index):
            self._by_index.setdefault(index, []).append(record)
        elif record.reason is None:
            record = replace(record, reason=_bad_index(index), detail=_quoted(index))
        if not is_id(index):
            self.loose.append(record)

    def of(self, index: str) -> list[Record]:
        """Rows of a product: the readable ones, or where there is none, the others."""
        rows = self._by_index.get(index, [])
        return [row for row in rows if row.reason is None] or rows

    def class_index(self, index: str) -> int | None:
        """Position of the product's code in the label set, None where it has no good label."""
        rows = self.of(index)
        return self._labels.parse(rows[0].fields["label"]) if rows and rows[0].reason is None else None

    def fault(self, index: str) -> tuple[Reason, str] | None:
        """What is wrong with the label of a product, None where it is good."""
        rows = self.of(index)
        if not rows:
            return Reason.PRODUCT_WITHOUT_LABEL, ""
        at = f"label file, line {', '.join(str(row.line) for row in rows[:5])}"
        if rows[0].reason is not None:
            return rows[0].reason, f"{at}: {rows[0].detail}"
        written = list(dict.fromkeys(row.fields["label"].strip() for row in rows))
        if len(written) > 1:
            return Reason.CONFLICTING_LABEL, f"{at}: {', '.join(map(_quoted, written[:5]))}"
        if not written[0]:
            return Reason.EMPTY_LABEL, at
        if self._labels.parse(written[0]) is None:
            return Reason.UNKNOWN_CODE, f"{at}: {_quoted(written[0])}"
        return None

    def unclaimed(self, claimed: set[int]) -> Iterator[Record]:
        """Rows with an index whose line is not in `claimed`, in file order, each with its reason."""
        rows = [row for rows in self._by_index.values() for row in rows if row.line not in claimed]
        for row in sorted(rows, key=lambda row: row.line):
            yield row if row.reason else replace(row, reason=Reason.LABEL_WITHOUT_PRODUCT)


class RowRules:
    """Checks product rows in file order; remembers the ids it has seen.

    Of rows with the same index the first keeps it, good or bad: a label can be meant for one of them only. Of
    good rows with the same productid the first keeps it.
    """

    def __init__(self, label_rows: LabelRows):
        self._label_rows = label_rows
        self._line_of_index: dict[str, int] = {}
        self._line_of_productid: dict[str, int] = {}

    def owns_index(self, record: Record) -> bool:
        """Whether `record`, checked before, is the row that its index and so its label belong to."""
        return self._line_of_index.get(record.fields["index"]) == record.line

    def check(self, record: Record) -> Record:
        """`record` as it is where it is good, else a copy with the first reason against it."""
        if record.reason is not None:
            return record
        fault = self._index_fault(record) or self._other_fault(record)
        return record if fault is None else replace(record, reason=fault[0], detail=fault[1])

    def adopt(self, record: Record) -> None:
        """Give an unreadable row the index that can be made out of it, if no readable row has it.

        Only after every row was checked: fragments of a broken row may look like an index of another one.
        """
        if is_id(record.fields["index"]):
            self._line_of_index.setdefault(record.fields["index"], record.line)

    def _index_fault(self, record: Record) -> tuple[Reason, str] | None:
        index = record.fields["index"]
        if not is_id(index):
            return _bad_index(index), _quoted(index)
        first = self._line_of_index.setdefault(index, record.line)
        return None if first == record.line else (Reason.DUPLICATE_INDEX, f"{index} is that of line {first}")

    def _other_fault(self, record: Record) -> tuple[Reason, str] | None:
        productid, imageid = record.fields["productid"], record.fields["imageid"]
        if not productid:
            return Reason.EMPTY_PRODUCTID, ""
        if not is_id(productid):
            return Reason.BAD_PRODUCTID, _quoted(productid)
        if imageid and not is_id(imageid):
            return Reason.BAD_IMAGEID, _quoted(imageid)
        if fault := self._label_rows.fault(record.fields["index"]):
            return fault
        first = self._line_of_productid.setdefault(productid, record.line)
        if first != record.line:
            return Reason.DUPLICATE_PRODUCTID, f"{productid} is that of line {first}"
        return None


def _bad_index(index: str) -> Reason:
    return Reason.BAD_INDEX if index else Reason.EMPTY_INDEX


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:99] + "…")
