"""What an ingest found: its counts, what it was made from, and how both are shown and kept."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rakuten.config import DataConfig
from rakuten.data.images import ImageCheck, ImageState
from rakuten.data.raw import Reason, find_table

FORMAT = 1  # of the ingest's three files: raise it when one of them changes meaning


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """Counts of one ingest, in rows. Holds no time, path or machine, so that the same input gives the same file.

    rows_in = rows_out + rows_quarantined, a label row without a product being a row of its own; and
    label_rows = labels_joined + labels_repeated + labels_with_bad_products + labels_quarantined.
    """

    format: int
    catalogue: str
    files: dict[str, str]
    rows_in: int
    rows_out: int
    rows_quarantined: int
    product_rows: int
    label_rows: int
    labels_joined: int
    labels_repeated: int  # the same label once more for a good product: kept once
    labels_with_bad_products: int  # quarantined within their product's entry
    labels_quarantined: int  # entries of their own
    quarantined: dict[str, int]  # by reason
    images: dict[str, int]  # good rows by state of their photo
    empty_designations: int  # of good rows
    empty_descriptions: int
    classes: dict[str, int]  # good rows by code
    fingerprint: dict[str, str]
    config: dict[str, Any]  # the parts of the config that the result depends on

    @property
    def balanced(self) -> bool:
        """Whether every row read is accounted for."""
        labels = self.labels_joined + self.labels_repeated + self.labels_with_bad_products
        return (
            self.rows_in == self.rows_out + self.rows_quarantined
            and self.rows_in == self.product_rows + self.labels_quarantined
            and self.label_rows == labels + self.labels_quarantined
            and self.rows_out == sum(self.images.values()) == sum(self.classes.values())
            and self.rows_quarantined == sum(self.quarantined.values())
        )

    def to_json(self) -> str:
        """The report as text; its last field says that the counts add up."""
        return json.dumps(asdict(self) | {"balanced": self.balanced}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> "IngestReport":
        """Read what `to_json` wrote.

        Raises:
            OSError, ValueError, TypeError: not there, not JSON, of another format.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT or not content.pop("balanced"):
            raise ValueError(f"{path} is not an ingest report of format {FORMAT}")
        return cls(**content)


def config_parts(config: DataConfig) -> dict[str, Any]:
    """The parts of the config that an ingest's result depends on, as plain JSON values."""
    files = config.files
    return {
        "encoding": config.encoding,
        "columns": dict(vars(config.columns)),
        "files": {"images_train": files.images_train, "image_name": files.image_name},
        "codes": [str(code) for code in config.codes],
        "limits": {"image_bytes": config.limits.image_bytes, "image_pixels": config.limits.image_pixels},
        "demo": None if config.demo is None else dict(vars(config.demo)),
    }


def raw_fingerprint(config: DataConfig) -> dict[str, str]:
    """Hashes of the two tables, and of the image folder's names, sizes and times: photos need not be read.

    Raises:
        DataError: a table is missing.
        OSError: one cannot be read.
    """
    folder = config.root / config.files.images_train
    return {
        "x_train": file_fingerprint(find_table(config, "x_train")),
        "y_train": file_fingerprint(find_table(config, "y_train")),
        "images_listing": _hash_lines(_listing(folder)),
    }


def file_fingerprint(path: Path) -> str:
    """xxh3-128 of a file's bytes."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def images_fingerprint(paths: Sequence[Path | None], checks: Sequence[ImageCheck]) -> str:
    """xxh3-128 of the photos' names, states and contents: the same on every machine and after every copy."""
    named = {path.name: check for path, check in zip(paths, checks, strict=True) if path is not None}
    return _hash_lines(f"{name}\0{check.state}\0{check.digest:x}" for name, check in named.items())


def _listing(folder: Path) -> Iterable[str]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat()
            except OSError:  # a dangling link: a missing photo, as far as anyone reads it
                continue
            yield f"{entry.name}\0{status.st_size}\0{status.st_mtime_ns}"


def _hash_lines(lines: Iterable[str]) -> str:
    return xxhash.xxh3_128_hexdigest("\n".join(sorted(lines)).encode("utf-8", "surrogateescape"))


def render_report(report: IngestReport) -> RenderableType:
    """The counts as a table for a terminal."""
    table = Table(title=f"Catalogue {report.catalogue}", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right", style="dim")
    table.add_column("note", style="dim")
    products = f"{report.product_rows:,} of {report.files['x_train']}, {report.label_rows:,} of {report.files['y_train']}"
    _add(table, "read", report.rows_in, None, products, style="bold")
    _add(table, "kept", report.rows_out, report.rows_in, f"{_class_note(report.classes)}", style="bold green")
    bad = "bold red" if report.rows_quarantined else "bold"
    _add(table, "quarantined", report.rows_quarantined, report.rows_in, "", style=bad)
    for reason, count in sorted(report.quarantined.items(), key=lambda item: -item[1]):
        _add(table, f"  {reason}", count, report.rows_in, Reason(reason).sentence)
    table.add_section()
    _add(table, "of those kept", report.rows_out, None, "", style="bold")
    for state, count in report.images.items():
        if count or state == ImageState.OK:
            _add(
                table,
                f"  photo {state.replace('_', ' ')}",
                count,
                report.rows_out,
                ImageState(state).sentence,
            )
    _add(table, "  no description", report.empty_descriptions, report.rows_out, "")
    if report.empty_designations:
        _add(table, "  no title", report.empty_designations, report.rows_out, "")
    if report.labels_repeated:
        _add(
            table,
            "  label repeated",
            report.labels_repeated,
            report.rows_out,
            "the same label twice: kept once",
        )
    return Group(table, *_warnings(report))


def _add(table: Table, what: str, count: int, whole: int | None, note: str, style: str = "") -> None:
    share = f"{count / whole:.1%}" if whole else ""
    table.add_row(Text(what, style=style), Text(f"{count:,}", style=style), share, Text(note))


def _class_note(classes: Mapping[str, int]) -> str:
    there = [count for count in classes.values() if count]
    return f"{len(there)} of {len(classes)} classes, {min(there):,} to {max(there):,} rows each"


def _warnings(report: IngestReport) -> Iterable[Text]:
    if not report.images[ImageState.OK]:
        folder, name = report.config["files"]["images_train"], report.config["files"]["image_name"]
        yield Text(f"No photo is readable: are they at {folder}/{name} below data.root?", style="yellow")
    if Reason.UNDECODABLE in report.quarantined:
        used = report.config["encoding"]
        yield Text(
            f"Some rows are not text in {used}: damage, or is another data.encoding meant?", style="yellow"
        )
    if absent := [code for code, count in report.classes.items() if not count]:
        yield Text(f"Classes without a row: {', '.join(absent)}", style="yellow")
