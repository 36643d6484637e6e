"""The table reader: every row comes out, whatever the file looks like."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rakuten.config import DataConfig
from rakuten.data.raw import Reason, Record, find_table, image_path, read_table
from rakuten.errors import DataError

COLUMNS = {"index": "", "title": "designation", "text": "description"}
HEADER = b",designation,description\n"


def read(tmp_path: Path, content: bytes, encoding: str = "utf-8", **options: Iterable[str]) -> list[Record]:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    return list(read_table(path, COLUMNS, encoding, **options))


def summary(records: list[Record]) -> list[tuple[int, str]]:
    """(line, title) of good rows, (line, reason) of bad ones."""
    return [(r.line, r.fields["title"] if r.reason is None else r.reason.value) for r in records]


ROWS = [
    pytest.param(b"1,a,b\n2,c,d\n", [(2, "a"), (3, "c")], id="plain"),
    pytest.param(b"1,a,b\r\n2,c,d\r\n", [(2, "a"), (3, "c")], id="crlf"),
    pytest.param(b"1,a,b\n2,c,d", [(2, "a"), (3, "c")], id="no-newline-at-the-end"),
    pytest.param(b"\n1,a,b\n\n\n2,c,d\n\n", [(3, "a"), (6, "c")], id="empty-lines-are-no-rows"),
    pytest.param(b'1,"a\nb\r\nc",d\n2,e,f\n', [(2, "a\nb\r\nc"), (5, "e")], id="quoted-newlines"),
    pytest.param(b'1,"say ""hi"", you",b\n', [(2, 'say "hi", you')], id="escaped-quotes"),
    pytest.param(b'1,TV 24" noir,b\n', [(2, 'TV 24" noir')], id="quote-inside-an-unquoted-field"),
    pytest.param(b'1,"24" noir,b\n2,c,d\n', [(2, "unreadable_row"), (3, "c")], id="quote-closed-too-early"),
    pytest.param(
        b"1,a\n2,c,d,e\n3,f,g\n", [(2, "wrong_field_count"), (3, "wrong_field_count"), (4, "f")], id="counts"
    ),
    pytest.param(
        b'1,"open,b\n2,c,d\n3,e,f\n', [(2, "unreadable_row"), (3, "c"), (4, "e")], id="unmatched-to-the-end"
    ),
    pytest.param(
        b'1,"open,b\n2,"c",d\n3,e,f\n', [(2, "unreadable_row"), (3, "c"), (4, "e")], id="unmatched-to-a-quote"
    ),
    pytest.param(
        b'1,"op\nen",b,c,d\n2,c,d\n', [(2, "unreadable_row"), (3, "wrong_field_count"), (4, "c")], id="long"
    ),
    pytest.param(b"1,a\0b,c\n2,d,e\n", [(2, "nul_byte"), (3, "d")], id="nul"),
    pytest.param(
        "1,é,\n2,à,\n".encode() + b"3,\xe9,\n", [(2, "é"), (3, "à"), (4, "undecodable")], id="a-bad-byte"
    ),
    pytest.param(b"1,a\rb,c\n2,d,e\n", [(2, "unreadable_row"), (3, "d")], id="bare-carriage-return"),
    pytest.param(b'1,"a\rb",c\n', [(2, "a\rb")], id="quoted-carriage-return"),
    pytest.param("1,a\x85b\u2028c,d\n".encode(), [(2, "a\x85b\u2028c")], id="unicode-line-ends-are-text"),
]


@pytest.mark.parametrize(("content", "expected"), ROWS)
def test_rows(tmp_path: Path, content: bytes, expected: list[tuple[int, str]]) -> None:
    assert summary(read(tmp_path, HEADER + content)) == expected


@pytest.mark.parametrize(("content", "expected"), ROWS)
def test_raw_text_of_all_rows_is_the_file(tmp_path: Path, content: bytes, expected: object) -> None:
    """No byte below the header is lost but line ends and empty lines."""
    raw = "\n".join(record.raw for record in read(tmp_path, HEADER + content))
    lines = content.decode("utf-8", "surrogateescape").replace("\r\n", "\n").split("\n")
    assert raw.replace("\r\n", "\n").split("\n") == [line for line in lines if line]


DAMAGE = st.sampled_from(
    [b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"\0", b"\xe9", b'\n"', b'",', b"a", b"\xc3\xa9", b"1,a,b\n"]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(DAMAGE, min_size=1, max_size=40))
def test_raw_text_of_any_file_is_the_file(tmp_path: Path, parts: list[bytes]) -> None:
    content = b"".join(parts) + b"\n9,end,z\n"
    try:
        records = read(tmp_path, HEADER + content)
    except DataError:
        # Many bad bytes are another encoding; nothing else may refuse the file.
        if b"\xe9" not in content and b"\0" not in content:
            raise
        return
    raw = "\n".join(record.raw for record in records)
    text = content.decode("utf-8", "surrogateescape")
    # A row ends at its line's end; which of its marks were part of that end is not kept.
    assert [line.strip("\r") for line in raw.split("\n") if line.strip("\r")] == [
        line.strip("\r") for line in text.split("\n") if line.strip("\r")
    ]


def test_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    assert summary(read(tmp_path, b"\xef\xbb\xbf" + HEADER + b"1,a,b\n")) == [(2, "a")]


def test_fields_of_several_megabytes(tmp_path: Path) -> None:
    long = "é\n" * 1_500_000
    (record,) = read(tmp_path, HEADER + f'1,"{long}",b\n'.encode())
    assert record.reason is None
    assert record.fields["title"] == long


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "utf-8-sig", "utf-32"])
def test_encoding_of_the_config_is_honoured(tmp_path: Path, encoding: str) -> None:
    content = (HEADER.decode() + "1,été,b\n2,où,d\n3,ça,e\n").encode(encoding)
    assert summary(read(tmp_path, content, encoding)) == [(2, "été"), (3, "où"), (4, "ça")]


FRENCH = HEADER.decode() + "1,a,b\n2,été,b\n3,où,d\n4,ça,e\n"
WHOLE_FILES = [
    pytest.param(FRENCH.encode("cp1252"), "utf-8", ["line 3", "data.encoding=cp1252"], id="cp1252-for-utf8"),
    pytest.param(FRENCH.encode("utf-16"), "utf-8", ["data.encoding=utf-16"], id="utf16-for-utf8"),
    pytest.param(FRENCH.encode("utf-16-le"), "utf-8", ["data.encoding=utf-16"], id="utf16-without-mark"),
    pytest.param(FRENCH.encode("utf-32"), "utf-8", ["data.encoding=utf-32"], id="utf32-for-utf8"),
    pytest.param(FRENCH.encode(), "cp1252", ["data.encoding=utf-8"], id="utf8-for-cp1252"),
    pytest.param(FRENCH.encode(), "utf-16", ["utf-16"], id="utf8-for-utf16"),
    pytest.param(FRENCH.encode(), "klingon", ["klingon", "utf-8"], id="no-such-encoding"),
    pytest.param(FRENCH.encode(), "base64", ["base64"], id="not-a-text-encoding"),
    pytest.param(b"", "utf-8", ["is empty"], id="empty-file"),
    pytest.param(b"\n\n", "utf-8", ["is empty"], id="empty-lines-only"),
    pytest.param(HEADER, "utf-8", ["no rows"], id="header-only"),
    pytest.param(b'"a,b\n1,2,3\n', "utf-8", ["header"], id="broken-header"),
    pytest.param(b"1,a,b\n2,c,d\n", "utf-8", ["'designation'", "conf/data/"], id="no-header"),
    pytest.param(
        b",Designation,desc\n1,a,b\n", "utf-8", ["nearest: 'Designation'", "'desc'"], id="other-names"
    ),
    pytest.param(b",designation,description,designation\n1,a,b,c\n", "utf-8", ["more than one"], id="twice"),
    pytest.param(b";designation;description\n1;a;b\n", "utf-8", ["separated by ';'"], id="semicolons"),
    pytest.param(b"PK\x03\x04junk", "utf-8", ["Excel"], id="xlsx"),
    pytest.param(b"\x1f\x8bjunk", "utf-8", ["gzip"], id="gzip"),
]


@pytest.mark.parametrize(("content", "encoding", "words"), WHOLE_FILES)
def test_refused_as_a_whole(tmp_path: Path, content: bytes, encoding: str, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, encoding)
    assert [word for word in words if word not in str(caught.value)] == []


def test_one_damaged_row_among_ascii_rows_is_not_another_encoding(tmp_path: Path) -> None:
    records = read(tmp_path, HEADER + b"1,a,b\n" * 40 + b"2,\xff,b\n")
    assert [record.line for record in records if record.reason is Reason.UNDECODABLE] == [42]


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "nothing.csv", COLUMNS, "utf-8")


def test_optional_column(tmp_path: Path) -> None:
    (record,) = read(tmp_path, b",designation\n1,a\n", optional=["text"])
    assert dict(record.fields) == {"index": "1", "title": "a", "text": ""}


def test_one_header_can_serve_two_fields(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"sku,title\nA1,b\n")
    (record,) = read_table(path, {"index": "sku", "productid": "sku", "title": "title"}, "utf-8")
    assert dict(record.fields) == {"index": "A1", "productid": "A1", "title": "b"}


def test_reads_no_further_than_asked(tmp_path: Path) -> None:
    """What is not read is not in memory: the bad row at the end has not been seen when the first two come out."""
    path = tmp_path / "table.csv"
    path.write_bytes(HEADER + b"1,a,b\n" * 50_000)
    records = read_table(path, COLUMNS, "utf-8")
    first = list(islice(records, 2))
    path.write_bytes(HEADER)
    assert summary(first) == [(2, "a"), (3, "a")]
    assert len(list(records)) < 49_000


def test_many_unmatched_quotes_cost_one_row_each(tmp_path: Path) -> None:
    content = HEADER + b"".join(b'%d,"a,b\n%d,c,d\n' % (n, n + 1) for n in range(0, 4000, 2))
    reasons = [record.reason for record in read(tmp_path, content)]
    assert reasons == [Reason.UNREADABLE_ROW, None] * 2000


def test_quotes_that_never_close_are_given_up_in_time(tmp_path: Path) -> None:
    """Every line opens a quote that the next one closes and opens again: thousands of searches to the end."""
    records = read(tmp_path, HEADER + (b"1,x" + b"y" * 200 + b'","\n') * 4000)
    assert {record.reason for record in records} == {Reason.UNREADABLE_ROW}
    assert len(records) == 4000


def test_first_existing_name_is_taken(make_data_config: Callable[..., DataConfig]) -> None:
    config = make_data_config()
    config.root.mkdir()
    (config.root / "X_train_update.csv").touch()
    assert find_table(config, "x_train").name == "X_train_update.csv"
    (config.root / "X_train.csv").touch()
    assert find_table(config, "x_train").name == "X_train.csv"


def test_missing_table_names_all_it_looked_for(make_data_config: Callable[..., DataConfig]) -> None:
    config = make_data_config()
    with pytest.raises(DataError, match="does not exist"):
        find_table(config, "y_train")
    config.root.mkdir()
    (config.root / "labels.csv").touch()
    with pytest.raises(DataError) as caught:
        find_table(config, "y_train")
    for word in ("Y_train.csv", "Y_train_CVw08PX.csv", "labels.csv", str(config.root)):
        assert word in str(caught.value)


def test_image_path(make_data_config: Callable[..., DataConfig]) -> None:
    path = image_path(Path("photos"), make_data_config().files, "12", "34")
    assert path == Path("photos/image_12_product_34.jpg")
