"""The ingest stage: the raw tables and photos -> one table of good rows, and every bad row with its reason.

Rows are joined by index. A product and its label count as one row, so that rows in = rows out + rows quarantined;
a label row without a product is a row of its own.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from rakuten.config import DataConfig
from rakuten.data.files import atomic_write, remove_leftovers
from rakuten.data.images import ImageCheck, ImageState, check_images
from rakuten.data.ingest_report import (
    FORMAT,
    IngestReport,
    config_parts,
    file_fingerprint,
    images_fingerprint,
    raw_fingerprint,
)
from rakuten.data.ingest_report import render_report as render_report  # what a script needs, from one place
from rakuten.data.raw import Reason, Record, find_table, image_path, read_table
from rakuten.data.validate import LabelRows, RowRules, has_text
from rakuten.errors import DataError

MERGED, QUARANTINE, REPORT = "merged_train.csv", "quarantine.csv", "ingest.json"
_FIELDS = ("index", "designation", "description", "productid", "imageid")
MERGED_COLUMNS = (*_FIELDS, "prdtypecode", "image_state")
_SURROGATE = re.compile("[\ud800-\udfff]")
QUARANTINE_COLUMNS = ("file", "line", "index", "reason", "detail", "raw")


def ingest(config: DataConfig, *, console: Console | None) -> IngestReport:
    """Read, join and check the catalogue; write the good rows, the bad rows and the counts.

    Writes to `config.interim_dir`: `merged_train.csv` (good rows in the order of the product file, texts as read),
    `quarantine.csv` (bad rows: where from, why, and in `raw` the rows as they stand in their files, as JSON) and, last,
    `ingest.json` (the report), whose presence says that the other two are whole. The same input gives the same bytes.
    A demo catalogue is generated first where it is missing or stale. `console` shows a progress bar on a terminal.

    Raises:
        DataError: a table is missing or unreadable as a whole, not one row is good, or the folder is not writable.
    """
    if config.demo is not None:
        from rakuten.data.demo import ensure_demo

        ensure_demo(config, console=console)
    x_path, y_path = find_table(config, "x_train"), find_table(config, "y_train")
    with _writing(config.interim_dir):
        # Before reading: what changes while we read then makes the result stale, not silently wrong.
        fingerprint = raw_fingerprint(config)
        joined = _join(config, x_path, y_path)
        photos = [_photo(config, product.record) for product in joined.products]
        checks = check_images(photos, config.limits, console=console)
        fingerprint["images"] = images_fingerprint(photos, checks)
        _settle(joined, checks)
        return _write(config, joined, fingerprint)


def ingest_is_current(config: DataConfig) -> tuple[bool, str]:
    """Whether the outputs are whole and made from today's raw files and config; if not, why, in words."""
    folder = config.interim_dir
    try:
        report = IngestReport.load(folder / REPORT)
    except FileNotFoundError:
        return False, f"there is no {folder / REPORT} yet"
    except (OSError, ValueError, TypeError, KeyError):
        return False, f"{folder / REPORT} is damaged or of another version"
    parts = config_parts(config)
    if changed := [f"data.{name}" for name in parts if report.config.get(name) != parts[name]]:
        return False, f"{', '.join(changed)} changed since the last ingest"
    try:
        now = raw_fingerprint(config) | _output_fingerprint(folder)
    except DataError as error:
        return False, error.problem
    except OSError as error:
        return False, f"{error.filename} cannot be read"
    words = report.files | {"images_listing": f"the photos in {config.files.images_train}"}
    if stale := [words.get(name, name) for name in now if report.fingerprint.get(name) != now[name]]:
        return False, f"{', '.join(stale)} changed since the last ingest"
    return True, "up to date"


@dataclass(slots=True)
class _Product:
    record: Record
    labels: list[Record]
    code: str
    has_text: bool
    image_state: ImageState = ImageState.NONE


@dataclass(slots=True)
class _Entry:
    """A line of the quarantine: a bad record and the label rows that go with it."""

    file: str
    record: Record
    labels: list[Record] = field(default_factory=list)


@dataclass(slots=True)
class _Joined:
    """The catalogue sorted into good products and bad rows, each in file order."""

    x_name: str
    y_name: str
    num_products: int
    num_labels: int
    products: list[_Product]
    bad: list[_Entry]
    loose: list[_Entry]  # label rows without a product


def _join(config: DataConfig, x_path: Path, y_path: Path) -> _Joined:
    headers = config.columns
    y_columns = {"index": headers.index, "label": headers.label}
    label_rows = LabelRows(read_table(y_path, y_columns, config.encoding), config.labels)
    rules = RowRules(label_rows)
    x_columns = {name: getattr(headers, name) for name in _FIELDS}
    rows = [_light(rules.check(record)) for record in read_table(x_path, x_columns, config.encoding)]
    for record in rows:
        if record.reason is not None:
            rules.adopt(record)
    products, bad, claimed = [], [], set[int]()
    for record in rows:
        index = record.fields["index"]
        labels = label_rows.of(index) if rules.owns_index(record) else []
        claimed.update(label.line for label in labels)
        class_index = label_rows.class_index(index) if record.reason is None else None
        if class_index is None:
            bad.append(_Entry(x_path.name, record, labels))
        else:
            code = str(config.labels.codes[class_index])
            products.append(_Product(record, labels, code, _has_content(record)))
    loose = sorted([*label_rows.loose, *label_rows.unclaimed(claimed)], key=lambda record: record.line)
    entries = [_Entry(y_path.name, record) for record in loose]
    return _Joined(x_path.name, y_path.name, len(rows), label_rows.num_rows, products, bad, entries)


def _has_content(record: Record) -> bool:
    return has_text(record.fields["designation"]) or has_text(record.fields["description"])


def _light(record: Record) -> Record:
    """Good texts only once in memory; without text a row may yet turn bad and is kept as it stands."""
    return replace(record, raw="") if record.reason is None and _has_content(record) else record


def _photo(config: DataConfig, record: Record) -> Path | None:
    imageid, productid = record.fields["imageid"], record.fields["productid"]
    if not imageid and "{imageid}" in config.files.image_name:
        return None
    return image_path(config.root / config.files.images_train, config.files, imageid, productid)


def _settle(joined: _Joined, checks: Sequence[ImageCheck]) -> None:
    """Note the photos' states, and quarantine what has neither text nor a readable photo."""
    kept = []
    for product, check in zip(joined.products, checks, strict=True):
        product.image_state = check.state
        if product.has_text or check.state is ImageState.OK:
            kept.append(product)
        else:
            record = replace(product.record, reason=Reason.NO_CONTENT, detail=f"photo: {check.state}")
            joined.bad.append(_Entry(joined.x_name, record, product.labels))
    joined.products = kept
    joined.bad.sort(key=lambda entry: entry.record.line)


def _write(config: DataConfig, joined: _Joined, fingerprint: dict[str, str]) -> IngestReport:
    folder = config.interim_dir
    # The mark of completeness goes first and comes back last.
    (folder / REPORT).unlink(missing_ok=True)
    entries = joined.bad + joined.loose
    reasons = Counter(entry.record.reason for entry in entries)
    by_reason = {reason.value: reasons[reason] for reason in Reason if reasons[reason]}
    _write_csv(folder / QUARANTINE, QUARANTINE_COLUMNS, (_quarantine_row(joined, entry) for entry in entries))
    if not joined.products:
        raise _nothing_left(config, joined, by_reason)
    _write_csv(folder / MERGED, MERGED_COLUMNS, map(_merged_row, joined.products))
    report = _report(config, joined, by_reason, fingerprint | _output_fingerprint(folder))
    assert report.balanced, f"rows went astray: {report}"
    with atomic_write(folder / REPORT) as path:
        path.write_text(report.to_json(), encoding="utf-8")
    return report


def _report(
    config: DataConfig, joined: _Joined, by_reason: dict[str, int], fingerprint: dict[str, str]
) -> IngestReport:
    products = joined.products
    fields = [product.record.fields for product in products]
    return IngestReport(
        format=FORMAT,
        catalogue=config.name,
        files={"x_train": joined.x_name, "y_train": joined.y_name},
        rows_in=joined.num_products + len(joined.loose),
        rows_out=len(products),
        rows_quarantined=len(joined.bad) + len(joined.loose),
        product_rows=joined.num_products,
        label_rows=joined.num_labels,
        labels_joined=len(products),
        labels_repeated=sum(len(product.labels) - 1 for product in products),
        labels_with_bad_products=sum(len(entry.labels) for entry in joined.bad),
        labels_quarantined=len(joined.loose),
        quarantined=by_reason,
        images=_count(ImageState, (product.image_state for product in products)),
        empty_designations=sum(not has_text(row["designation"]) for row in fields),
        empty_descriptions=sum(not has_text(row["description"]) for row in fields),
        classes=_count(map(str, config.codes), (product.code for product in products)),
        fingerprint=fingerprint,
        config=config_parts(config),
    )


def _count(names: Iterable[str], values: Iterable[str]) -> dict[str, int]:
    counts = Counter(values)
    return {str(name): counts[name] for name in names}


def _output_fingerprint(folder: Path) -> dict[str, str]:
    return {name: file_fingerprint(folder / name) for name in (MERGED, QUARANTINE)}


def _merged_row(product: _Product) -> list[str]:
    return [*(product.record.fields[name] for name in _FIELDS), product.code, product.image_state.value]


def _quarantine_row(joined: _Joined, entry: _Entry) -> list[str]:
    record = entry.record
    raw = {f"{entry.file}:{record.line}": record.raw}
    raw |= {f"{joined.y_name}:{label.line}": label.raw for label in entry.labels}
    # Lone surrogates (undecodable bytes) cannot be written as UTF-8; as JSON escapes they come back as they were.
    text = json.dumps(raw, ensure_ascii=any(map(_SURROGATE.search, raw.values())))
    index = record.fields["index"].encode("utf-8", "backslashreplace").decode()
    return [entry.file, str(record.line), index, str(record.reason), record.detail, text]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(",".join(header) + "\n")
        stream.writelines(",".join(map(_cell, row)) + "\n" for row in rows)


def _cell(text: str) -> str:
    # Python's csv writer leaves a bare \r unquoted before 3.13, which no reader takes for a part of the field.
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in ',"\r\n') else text


def _nothing_left(config: DataConfig, joined: _Joined, by_reason: Mapping[str, int]) -> DataError:
    first = (joined.bad + joined.loose)[0]
    return DataError(
        f"not one row of {joined.x_name} is good",
        expected="products with a label among data.codes, sound ids, and text or a photo",
        got=", ".join(
            f"{count:,} {reason}" for reason, count in sorted(by_reason.items(), key=lambda x: -x[1])
        ),
        fix=f"see {config.interim_dir / QUARANTINE}; the first: {first.file}, line {first.record.line}: "
        f"{first.record.reason} {first.record.detail}",
    )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Sole use of `folder`, rid of what killed runs left there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".ingest.lock"):
            remove_leftovers(*(folder / name for name in (MERGED, QUARANTINE, REPORT)))
            yield
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written to", got=error, fix="set data.interim_dir=FOLDER, or free space"
        ) from error
