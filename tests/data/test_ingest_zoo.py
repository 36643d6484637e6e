"""A catalogue with every kind of broken input, each with its expected outcome."""

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from rakuten.config import DataConfig
from rakuten.data.ingest import MERGED_COLUMNS, ingest
from rakuten.data.ingest_report import IngestReport, render_report
from rakuten.data.raw import read_table
from rakuten.errors import DataError
from tests.data.test_images import encoded

MakeConfig = Callable[..., DataConfig]
X_HEADER = b",designation,description,productid,imageid\n"
Y_HEADER = b",prdtypecode\n"
GOOD_X = "0,Été,<p>Livre</p>,100,900\n1,Jeu,,101,901\n2,Lampe,,102,902\n".encode()
GOOD_Y = b"0,10\n1,40\n2,2060\n"
GOOD_INDICES = ["0", "1", "2"]


@pytest.fixture
def config(make_data_config: MakeConfig) -> DataConfig:
    made = make_data_config()
    (made.root / "images/image_train").mkdir(parents=True)
    for imageid, productid in ((900, 100), (901, 101)):
        photo_path(made, str(imageid), str(productid)).write_bytes(encoded("JPEG"))
    return made


def photo_path(config: DataConfig, imageid: str, productid: str) -> Path:
    return config.root / f"images/image_train/image_{imageid}_product_{productid}.jpg"


def run(config: DataConfig, x: bytes, y: bytes) -> IngestReport:
    (config.root / "X_train.csv").write_bytes(X_HEADER + x)
    (config.root / "Y_train.csv").write_bytes(Y_HEADER + y)
    return ingest(config, console=None)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))


# what is added to the good rows: X, Y; expected: entries (file, line, reason)
BAD_ROWS = [
    pytest.param(b"7,T,,170\n", b"7,10\n", [("X", 5, "wrong_field_count")], id="too-few-fields"),
    pytest.param(b"7,T,,170,970,9\n", b"7,10\n", [("X", 5, "wrong_field_count")], id="too-many-fields"),
    pytest.param(b'7,"T,,170,970\n', b"7,10\n", [("X", 5, "unreadable_row")], id="unmatched-quote"),
    pytest.param(
        b"7,T\xe9,,170,970\n8,\xc3\xa9,,180,980\n", b"7,10\n8,10\n", [("X", 5, "undecodable")], id="bad-byte"
    ),
    pytest.param(b"7,T\0,,170,970\n", b"7,10\n", [("X", 5, "nul_byte")], id="nul-byte"),
    pytest.param(b",T,,170,970\n", b"", [("X", 5, "empty_index")], id="empty-index"),
    pytest.param(b"7 7,T,,170,970\n", b"", [("X", 5, "bad_index")], id="bad-index"),
    pytest.param(b'"7\n",T,,170,970\n', b"", [("X", 5, "bad_index")], id="newline-in-index"),
    pytest.param(b"1,T,,170,970\n", b"", [("X", 5, "duplicate_index")], id="index-twice"),
    pytest.param(b"7,T,,,970\n", b"7,10\n", [("X", 5, "empty_productid")], id="empty-productid"),
    pytest.param(
        b"7,T,,../../etc/passwd,970\n", b"7,10\n", [("X", 5, "bad_productid")], id="path-in-productid"
    ),
    pytest.param(b"7,T,,1.0,970\n", b"7,10\n", [("X", 5, "bad_productid")], id="float-productid"),
    pytest.param(
        b"7,T,," + b"1" * 65 + b",970\n", b"7,10\n", [("X", 5, "bad_productid")], id="endless-productid"
    ),
    pytest.param(b"7,T,,100,970\n", b"7,10\n", [("X", 5, "duplicate_productid")], id="productid-twice"),
    pytest.param(b"7,T,,170,/etc/passwd\n", b"7,10\n", [("X", 5, "bad_imageid")], id="path-in-imageid"),
    pytest.param(b"7,T,,170,..\\x\n", b"7,10\n", [("X", 5, "bad_imageid")], id="windows-path-in-imageid"),
    pytest.param("7,T,,170,９\n".encode(), b"7,10\n", [("X", 5, "bad_imageid")], id="wide-digits-in-imageid"),
    pytest.param(b"7,T,,170,970\n", b"", [("X", 5, "product_without_label")], id="no-label"),
    pytest.param(b"", b"7,10\n", [("Y", 5, "label_without_product")], id="no-product"),
    pytest.param(b"7,T,,170,970\n", b"7,\n", [("X", 5, "empty_label")], id="empty-label"),
    pytest.param(b"7,T,,170,970\n", b"7,99\n", [("X", 5, "unknown_code")], id="unknown-code"),
    pytest.param(b"7,T,,170,970\n", b"7,10.0\n", [("X", 5, "unknown_code")], id="float-code"),
    pytest.param(b"7,T,,170,970\n", b"7,10\n7,40\n", [("X", 5, "conflicting_label")], id="two-labels"),
    pytest.param(b"7,T,,170,970\n", b"7,10,1\n", [("X", 5, "wrong_field_count")], id="unreadable-label"),
    pytest.param(
        b"7,T,,170,970\n", b"7,10,1\n7,10\n", [("Y", 5, "wrong_field_count")], id="one-label-unreadable"
    ),
    pytest.param(b"", b",10\n", [("Y", 5, "empty_index")], id="label-with-empty-index"),
    pytest.param(b"", b"../7,10\n", [("Y", 5, "bad_index")], id="label-with-bad-index"),
    pytest.param(b"7,,,170,970\n", b"7,10\n", [("X", 5, "no_content")], id="neither-text-nor-photo"),
    pytest.param(b"7,,,170,\n", b"7,10\n", [("X", 5, "no_content")], id="neither-text-nor-photo-named"),
    pytest.param(
        b"7, ,<br>&nbsp;,170,970\n", b"7,10\n", [("X", 5, "no_content")], id="only-a-tag-and-no-photo"
    ),
    pytest.param(
        b"7,T,,170,970\n7,U,,171,971\n",
        b"7,99\n",
        [("X", 5, "unknown_code"), ("X", 6, "duplicate_index")],
        id="two",
    ),
]


@pytest.mark.parametrize(("x", "y", "expected"), BAD_ROWS)
def test_bad_row_is_quarantined_and_costs_no_other(
    config: DataConfig, x: bytes, y: bytes, expected: list[tuple[str, int, str]]
) -> None:
    report = run(config, GOOD_X + x, GOOD_Y + y)
    entries = table(config.interim_dir / "quarantine.csv")
    assert [(e["file"][0], int(e["line"]), e["reason"]) for e in entries] == expected
    kept = [row["index"] for row in table(config.interim_dir / "merged_train.csv")]
    assert kept[:3] == GOOD_INDICES
    assert report.balanced
    assert (report.rows_out, report.rows_quarantined) == (len(kept), len(expected))


@pytest.mark.parametrize(("x", "y", "expected"), BAD_ROWS)
def test_nothing_of_a_bad_row_is_lost(config: DataConfig, x: bytes, y: bytes, expected: object) -> None:
    """Every line of both files is in the good table or, byte for byte, in the quarantine."""
    run(config, GOOD_X + x, GOOD_Y + y)
    raw: dict[str, str] = {}
    for entry in table(config.interim_dir / "quarantine.csv"):
        raw |= json.loads(entry["raw"])
    kept = {row["index"]: row for row in table(config.interim_dir / "merged_train.csv")}
    quarantined = b"\n".join(text.encode("utf-8", "surrogateescape") for text in raw.values()) + b"\n"
    for line in [*x.splitlines(), *y.splitlines()]:
        assert line in quarantined or line.split(b",")[0].decode() in kept


# added row of X, content of its photo (None: no file), expected state
KEPT_ROWS = [
    pytest.param(b"7,T,,170,970\n", lambda: encoded("JPEG"), "ok", id="jpeg"),
    pytest.param(b"7,T,,170,970\n", lambda: encoded("PNG"), "ok", id="png-called-jpg"),
    pytest.param(b"7,T,,170,970\n", lambda: encoded("WEBP"), "ok", id="webp-called-jpg"),
    pytest.param(b"7,,,170,970\n", lambda: encoded("JPEG"), "ok", id="photo-without-text"),
    pytest.param(b"7,,D,170,970\n", None, "missing", id="description-without-title-and-photo"),
    pytest.param(b"7,T,,170,\n", None, "none", id="no-photo-named"),
    pytest.param(b"7,T,,170,970\n", None, "missing", id="no-photo-there"),
    pytest.param(b"7,T,,170,970\n", lambda: b"", "empty", id="zero-bytes"),
    pytest.param(b"7,T,,170,970\n", lambda: encoded("JPEG")[:-300], "truncated", id="half-a-jpeg"),
    pytest.param(b"7,T,,170,970\n", lambda: encoded("PNG")[:-300], "truncated", id="half-a-png"),
    pytest.param(b"7,T,,170,970\n", lambda: encoded("WEBP")[:60], "truncated", id="a-bit-of-a-webp"),
    pytest.param(
        b"7,T,,170,970\n", lambda: encoded("JPEG")[:10], "truncated", id="only-the-start-of-a-header"
    ),
    pytest.param(b"7,T,,170,970\n", lambda: b"<html>404 not found</html>", "not_an_image", id="html"),
    pytest.param(b"7,T,,170,970\n", lambda: encoded("GIF"), "not_an_image", id="gif"),
    pytest.param(b"7,T,,170,970\n", lambda: bytes(1000), "not_an_image", id="zeros"),
    pytest.param(b"7,T,,170,970\n", lambda: encoded("PNG", (60, 60)), "too_large", id="too-many-pixels"),
    pytest.param(
        b"7,T,,170,970\n", lambda: b"\xff\xd8\xff" + bytes(20_000), "too_large", id="too-many-bytes"
    ),
]


@pytest.mark.parametrize(("x", "photo", "state"), KEPT_ROWS)
def test_missing_or_broken_photo_alone_is_kept(
    make_data_config: MakeConfig,
    config: DataConfig,
    x: bytes,
    photo: Callable[[], bytes] | None,
    state: str,
) -> None:
    config = make_data_config(limits={"image_bytes": 15_000, "image_pixels": 2500})
    if photo:
        photo_path(config, "970", "170").write_bytes(photo())
    report = run(config, GOOD_X + x, GOOD_Y + b"7,10\n")
    rows = {row["index"]: row["image_state"] for row in table(config.interim_dir / "merged_train.csv")}
    assert rows == {"0": "ok", "1": "ok", "2": "missing", "7": state}
    assert sum(report.images.values()) == report.rows_out == 4
    assert report.rows_quarantined == 0


def test_texts_stay_as_they_are_and_in_order(config: DataConfig) -> None:
    title, text = ' Été "24"\r\n,\rà ', "<b>cafÃ©</b>\n\n&amp; \u2028 "
    x = f'8,"{title.replace(chr(34), chr(34) * 2)}","{text}",180,\n'.encode()
    run(config, x + GOOD_X, GOOD_Y + b"8,10\n")
    rows = table(config.interim_dir / "merged_train.csv")
    assert tuple(rows[0]) == MERGED_COLUMNS
    assert [row["index"] for row in rows] == ["8", *GOOD_INDICES]
    assert (rows[0]["designation"], rows[0]["description"]) == (title, text)


def test_labels_are_joined_by_index_not_by_position(config: DataConfig) -> None:
    run(config, GOOD_X, b"2,2060\n0,10\n1, 40 \n")
    rows = table(config.interim_dir / "merged_train.csv")
    assert {row["index"]: row["prdtypecode"] for row in rows} == {"0": "10", "1": "40", "2": "2060"}


def test_same_label_twice_is_kept_once_and_counted(config: DataConfig) -> None:
    report = run(config, GOOD_X, GOOD_Y + b"1,40\n")
    assert (report.rows_in, report.rows_out, report.label_rows, report.labels_repeated) == (3, 3, 4, 1)


def test_report_counts_and_table(config: DataConfig) -> None:
    report = run(config, GOOD_X + b"7,T,,170,970\n", GOOD_Y + b"7,99\n9,10\n")
    assert (report.rows_in, report.rows_out, report.rows_quarantined) == (5, 3, 2)
    assert report.quarantined == {"label_without_product": 1, "unknown_code": 1}
    assert (report.images["ok"], report.images["missing"], report.empty_descriptions) == (2, 1, 2)
    assert {code: count for code, count in report.classes.items() if count} == {"10": 1, "40": 1, "2060": 1}
    assert IngestReport.load(config.interim_dir / "ingest.json") == report
    console = Console(width=120, record=True, file=StringIO())
    console.print(render_report(report))
    shown = console.export_text()
    for words in (
        "unknown_code",
        "category code is not among data.codes",
        "3 of 27 classes",
        "photo missing",
    ):
        assert words in shown


def test_photos_named_by_product_alone(make_data_config: MakeConfig, config: DataConfig) -> None:
    config = make_data_config(files={"image_name": "{productid}.png"})
    (config.root / "images/image_train/100.png").write_bytes(encoded("PNG"))
    run(config, b"0,T,,100,\n", b"0,10\n")
    assert table(config.interim_dir / "merged_train.csv")[0]["image_state"] == "ok"


@pytest.mark.parametrize(("x", "y"), [(GOOD_X, b"0,99\n"), (GOOD_X, b"8,10\n"), (b"junk\n", b"junk\n")])
def test_no_good_row_is_an_error_with_the_reasons(config: DataConfig, x: bytes, y: bytes) -> None:
    with pytest.raises(DataError, match="not one row") as caught:
        run(config, x, y)
    entries = table(config.interim_dir / "quarantine.csv")
    assert len(entries) >= 1
    assert entries[0]["reason"] in str(caught.value)
    assert not (config.interim_dir / "ingest.json").exists()


@pytest.mark.parametrize("name", ["X_train.csv", "Y_train.csv"])
def test_missing_table(config: DataConfig, name: str) -> None:
    run(config, GOOD_X, GOOD_Y)
    (config.root / name).unlink()
    with pytest.raises(DataError, match=name):
        ingest(config, console=None)


def test_folder_that_cannot_be_written_to(
    make_data_config: MakeConfig, config: DataConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"data\.interim_dir"):
        run(make_data_config(interim_dir=str(tmp_path / "file")), GOOD_X, GOOD_Y)


DAMAGE = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            b'"',
            b'""',
            b",",
            b"\n",
            b"\r",
            b"\0",
            b"\xe9",
            b'\n"',
            b'",',
            b"0,10\n",
            b"\xff\xfe",
            b"5,T,,1,2\n",
        ]
    ),
)
EDITS = st.lists(
    st.tuples(st.sampled_from("XY"), st.integers(0, 2000), st.integers(0, 3), DAMAGE), max_size=6
)
MANY_X = "".join(f'{n},Été {n},"<p>""{n}"",\nfin</p>",{100 + n},{900 + n}\n' for n in range(40)).encode()
MANY_Y = b"".join(b"%d,10\n" % n for n in range(40))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_random_damage_loses_no_row(config: DataConfig, edits: list[tuple[str, int, int, bytes]]) -> None:
    """Any bytes put in, cut out or overwritten: a DataError, or every row accounted for."""
    content = {"X": X_HEADER + MANY_X, "Y": Y_HEADER + MANY_Y}
    for name, where, cut, new in edits:
        at = where % len(content[name])
        content[name] = content[name][:at] + new + content[name][at + cut :]
    for name, table_bytes in content.items():
        (config.root / f"{name}_train.csv").write_bytes(table_bytes)
    try:
        report = ingest(config, console=None)
    except DataError:
        return
    assert report.balanced
    rows, entries = (table(config.interim_dir / name) for name in ("merged_train.csv", "quarantine.csv"))
    assert (len(rows), len(entries)) == (report.rows_out, report.rows_quarantined)
    assert report.rows_in == len(rows) + len(entries)
    quarantined: dict[str, str] = {}
    for entry in entries:
        quarantined |= json.loads(entry["raw"])
    kept = {row["index"]: row for row in rows}
    x_columns = {name: name for name in MERGED_COLUMNS[1:5]} | {"index": ""}
    for record in read_table(config.root / "X_train.csv", x_columns, "utf-8"):
        row = kept.get(record.fields["index"], {})
        same = all(row.get(name) == text for name, text in record.fields.items())
        assert same or quarantined[f"X_train.csv:{record.line}"] == record.raw
    for record in read_table(config.root / "Y_train.csv", {"index": "", "code": "prdtypecode"}, "utf-8"):
        same = kept.get(record.fields["index"], {}).get("prdtypecode") == record.fields["code"].strip()
        assert same or quarantined[f"Y_train.csv:{record.line}"] == record.raw
