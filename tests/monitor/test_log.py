"""The inference log: what was written is there once, whatever becomes of processes, disks and databases."""

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from rakuten.errors import RakutenError
from rakuten.monitor.database import Database
from rakuten.monitor.delivery import REFUSED
from rakuten.monitor.entry import from_line, to_line
from rakuten.monitor.log import InferenceLog
from rakuten.monitor.reader import LogReader
from rakuten.monitor.record import PredictionRecord
from rakuten.monitor.retention import DAY_S, Retention
from rakuten.monitor.spool import SUFFIX, new_spool
from rakuten.monitor.tables import METADATA
from tests.monitor.records import record, statistics
from tests.services import Postgres, postgres


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log.db'}"
    running: Postgres = request.getfixturevalue("server")
    engine = create_engine(running.url)
    METADATA.drop_all(engine)
    engine.dispose()
    return running.url


def until(condition: object, what: str = "") -> None:
    """Wait for what happens in another thread."""
    assert callable(condition)
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"waited in vain {what}")


def same(one: PredictionRecord, other: PredictionRecord) -> None:
    for name in PredictionRecord.__slots__:
        if name not in ("probs", "text_embedding", "image_embedding"):
            assert getattr(one, name) == getattr(other, name), name
    np.testing.assert_array_equal(one.probs, other.probs)
    for name in ("text_embedding", "image_embedding"):
        mine, read = getattr(one, name), getattr(other, name)
        assert (mine is None) == (read is None)
        if mine is not None:
            np.testing.assert_allclose(read, mine, rtol=1e-3)


def test_a_record_is_read_as_it_was_written(url: str, tmp_path: Path) -> None:
    full = record(
        1,
        at=1000.25,
        code="2403",
        shadow_version="8",
        shadow_code=10,
        shadow_confidence=0.5,
        abstained=True,
        cached=True,
    )
    bare = record(
        2,
        at=1001.0,
        text_embedding=None,
        image_embedding=None,
        queue_ms=None,
        key_name=None,
        statistics=statistics(
            has_image=False,
            image_width=None,
            image_height=None,
            sharpness=None,
            language=None,
            oov_share=None,
        ),
    )
    log = InferenceLog(url, tmp_path / "spool")
    assert log.write(full)
    assert log.write(bare)
    assert log.close()
    read = LogReader(url, codes=(10, "2403", *range(11, 27), *range(10))).records()
    assert len(read) == 2
    same(full, read[0])
    same(bare, read[1])
    assert LogReader(url).products([full.prediction_id]) == {}


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    log = InferenceLog(url, tmp_path / "spool")
    assert log.write(record(code=np.int64(7), confidence=np.float32(0.5), abstained=np.bool_(True)))
    assert log.close()
    [read] = LogReader(url, codes=[7]).records()
    assert (read.code, read.confidence, read.abstained) == (7, 0.5, True)


def test_texts_that_no_database_takes_cost_no_record(url: str, tmp_path: Path) -> None:
    strange = record(designation="a\0b \ud800 é", description=None, image=bytes(range(256)), key_name="k\0")
    log = InferenceLog(url, tmp_path / "spool")
    log.write(strange)
    assert log.close()
    [product] = LogReader(url).products([strange.prediction_id]).values()
    assert product.designation == "ab ? é"
    assert product.description is None
    assert product.image == bytes(range(256))
    assert log.counts.refused == 0


def test_the_last_feedback_counts_whenever_the_prediction_comes(url: str, tmp_path: Path) -> None:
    log = InferenceLog(url, tmp_path / "spool")
    late, confirmed = record(), record()
    assert log.feedback(late.prediction_id, 10)
    assert log.feedback(late.prediction_id, 2403, key_name="shop")
    assert log.flush()
    assert log.write(late)
    assert log.write(confirmed)
    assert log.feedback(confirmed.prediction_id, "x")
    assert log.close()
    reader = LogReader(url, codes=[10, 2403])
    ids = [late.prediction_id, confirmed.prediction_id, "never"]
    assert reader.feedback(ids) == {late.prediction_id: 2403, confirmed.prediction_id: "x"}
    assert reader.answers(ids).keys() == set(ids[:2])


def test_windows_of_time_version_and_number(url: str, tmp_path: Path) -> None:
    # Several of the same moment: a page may end between them.
    written = [record(i, at=float(i // 4), model_version=str(i % 2)) for i in range(40)]
    log = InferenceLog(url, tmp_path / "spool")
    for each in written:
        log.write(each)
    assert log.close()
    reader = LogReader(url)
    of = {each.prediction_id: each for each in written}
    pages = list(reader.stream(page=7))
    ids = [each.prediction_id for page in pages for each in page]
    assert len(pages) == 6
    assert sorted(ids) == sorted(of)
    assert [of[each].at for each in ids] == sorted(each.at for each in written)
    some = reader.records(since=2, until=5, model_version="1")
    assert sorted(each.prediction_id for each in some) == sorted(
        each.prediction_id for each in written if 2 <= each.at < 5 and each.model_version == "1"
    )
    newest = reader.records(newest=8)
    assert [each.prediction_id for each in newest] == ids[-8:]


def test_no_room_is_said_and_counted_and_waits_for_nothing(tmp_path: Path) -> None:
    log = InferenceLog(f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "spool", max_records=50)
    answers = [log.write(record()) for _ in range(10)]
    assert all(answers)
    assert log.flush()
    heavy = InferenceLog(f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "spool", max_bytes=1000)
    assert not heavy.write(record(image=bytes(1001)))
    assert heavy.write(record())
    assert heavy.close()
    same_moment = [record() for _ in range(500)]
    answers = [log.write(each) for each in same_moment]
    assert not all(answers)
    assert log.close()
    assert log.counts.dropped == answers.count(False)
    assert log.counts.delivered == log.counts.accepted == 10 + answers.count(True)
    assert not log.write(record())
    assert not log.flush()
    assert heavy.counts.dropped == 1


def test_a_database_that_is_away_costs_nothing_but_time(server: Postgres, tmp_path: Path) -> None:
    """Also from the very start, and over the end of the process."""
    engine = create_engine(server.url)
    METADATA.drop_all(engine)
    engine.dispose()
    server.stop()
    try:
        log = InferenceLog(server.url, tmp_path / "spool")
        first = [record(i) for i in range(300)]
        assert all(map(log.write, first))
        assert log.flush()
        assert log.counts.acknowledged == 300
        assert not log.close(1.0)
    finally:
        server.start()
    assert list((tmp_path / "spool").glob(f"*{SUFFIX}"))
    log = InferenceLog(server.url, tmp_path / "spool")
    until(lambda: log.counts.delivered == 300)
    server.stop()
    second = [record(i) for i in range(300)]
    try:
        assert all(map(log.write, second))
        assert log.flush()
        until(lambda: not log.counts.database_up)
    finally:
        server.start()
    until(lambda: log.counts.delivered == 600)
    assert log.counts.failed_batches > 0
    assert log.close()
    ids = [each.prediction_id for each in LogReader(server.url).records()]
    assert sorted(ids) == sorted(each.prediction_id for each in first + second)
    assert not list((tmp_path / "spool").glob(f"*{SUFFIX}"))


def test_a_full_spool_waits_in_memory_and_then_drops(server: Postgres, tmp_path: Path) -> None:
    server.stop()
    try:
        log = InferenceLog(server.url, tmp_path / "spool", max_records=20, max_spool_bytes=20_000)
        for _ in range(60):
            log.write(record())
            time.sleep(0.005)
        until(lambda: not log.write(record()))
        assert sum(path.stat().st_size for path in (tmp_path / "spool").iterdir()) <= 20_000
        assert not log.flush(0.3)
    finally:
        server.start()
    assert log.flush(30)
    assert log.close()
    assert log.counts.delivered == log.counts.accepted == log.counts.acknowledged
    assert log.counts.dropped > 0


def test_a_disk_that_cannot_be_written_to_leaves_the_database(tmp_path: Path) -> None:
    log = InferenceLog(f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "spool")
    # What the spool's file is opened for is gone: a write fails as on a broken disk.
    os.dup2(os.open("/dev/full", os.O_RDWR), log._spool._fd)
    assert log.write(record())
    assert log.flush()
    assert log.counts.delivered == 1
    log.close()


def test_a_damaged_line_costs_that_line(tmp_path: Path) -> None:
    url, folder = f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "spool"
    whole = [to_line(record(i)) for i in range(4)]
    flipped = bytearray(whole[1])
    flipped[40] ^= 1
    with pytest.raises(ValueError):
        from_line(bytes(flipped))
    spool = new_spool(folder)
    spool.append(whole[0] + bytes(flipped) + b"junk\n" + whole[2] + whole[3][:100])  # killed in the last one
    spool.close()
    log = InferenceLog(url, folder)
    until(lambda: log.counts.delivered == 2)
    assert log.close()
    assert log.counts.refused == 2
    assert (folder / REFUSED).read_bytes() == bytes(flipped) + b"junk\n"
    ids = {each.prediction_id for each in LogReader(url).records()}
    assert ids == {next(iter(from_line(whole[i]).values()))["prediction_id"] for i in (0, 2)}


def test_a_row_that_the_database_refuses_stops_no_other(url: str, tmp_path: Path) -> None:
    log = InferenceLog(url, tmp_path / "spool")
    good, bad = [record(i) for i in range(5)], record(model_version=None)
    for each in (*good[:3], bad, *good[3:]):
        assert log.write(each)
    assert log.close()
    assert log.counts.refused == 1
    assert len(LogReader(url).records()) == 5
    assert bad.prediction_id.encode() in (tmp_path / "spool" / REFUSED).read_bytes()


def test_a_record_that_makes_no_sense_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = InferenceLog(f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "spool")
    for each in (record(), record(probs="no array"), record()):
        assert log.write(each)
    assert log.close()
    assert (log.counts.delivered, log.counts.dropped) == (2, 1)
    assert "makes no sense" in caplog.text


def test_old_rows_go_and_products_go_sooner(url: str, tmp_path: Path) -> None:
    now = 100 * DAY_S
    log = InferenceLog(url, tmp_path / "spool")
    rows = {days: record(at=float(now - days * DAY_S), designation="piscine") for days in (1, 8, 40)}
    for each in (*rows.values(), *(record(at=1.0) for _ in range(1200))):
        log.write(each)
    log.feedback(rows[1].prediction_id, 10)
    assert log.close()
    database = Database(url)
    assert Retention().apply(database, now) == 0
    assert Retention(days=30, product_days=7).apply(database, now) == 1201 + 2
    reader = LogReader(url)
    ids = {days: each.prediction_id for days, each in rows.items()}
    assert [each.prediction_id for each in reader.records()] == [ids[8], ids[1]]
    assert list(reader.products(list(ids.values()))) == [ids[1]]
    assert reader.feedback([ids[1]]) == {ids[1]: "10"}
    assert Retention(days=1).apply(database, now + DAY_S) > 0
    assert reader.products(list(ids.values())) == {}


def test_a_running_log_deletes_by_itself(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    log = InferenceLog(url, tmp_path / "spool")
    log.write(record(at=1.0))
    log.write(record())
    assert log.close()
    log = InferenceLog(url, tmp_path / "spool", retention=Retention(days=30))
    until(lambda: len(LogReader(url).records()) == 1)
    log.close()


def test_another_versions_log_is_refused_in_one_error(url: str, tmp_path: Path) -> None:
    InferenceLog(url, tmp_path / "spool").close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE rakuten_log_schema SET version = 99"))
    engine.dispose()
    with pytest.raises(RakutenError, match="of another version") as caught:
        InferenceLog(url, tmp_path / "spool")
    assert caught.value.got == "version 99"
    with pytest.raises(RakutenError, match="of another version"):
        LogReader(url).records()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "outputs/log.db",
        "mysql://me:secret@host/db",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://h/d",
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(RakutenError, match="inference log") as caught:
        InferenceLog(url, tmp_path / "spool")
    assert "secret" not in str(caught.value)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RakutenError, match="cannot be kept"):
        InferenceLog(f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "file")


def test_the_columns_of_version_1(tmp_path: Path) -> None:
    """A change here makes every log that is out there unreadable: raise SCHEMA, and say how to move over."""
    InferenceLog(f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "spool").close()
    with sqlite3.connect(tmp_path / "log.db") as connection:
        columns = {
            table: [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    assert columns == {
        "rakuten_log_schema": ["version"],
        "rakuten_predictions": [
            "prediction_id",
            "at",
            "model_version",
            "code",
            "confidence",
            "abstained",
            "cached",
            "queue_ms",
            "decode_ms",
            "model_ms",
            "total_ms",
            "key_name",
            "shadow_version",
            "shadow_code",
            "shadow_confidence",
            "has_text",
            "has_description",
            "has_image",
            "image_failed",
            "title_chars",
            "description_chars",
            "num_tokens",
            "oov_share",
            "language",
            "image_width",
            "image_height",
            "brightness",
            "contrast",
            "saturation",
            "sharpness",
            "white_share",
            "probs",
            "text_embedding",
            "image_embedding",
        ],
        "rakuten_products": ["prediction_id", "at", "designation", "description", "image"],
        "rakuten_feedback": ["prediction_id", "code", "at", "key_name"],
        "rakuten_decisions": ["decision_id", "at", "model_version", "kind", "severity", "body"],
        "rakuten_findings": ["name", "at", "body"],
    }


def test_texts_of_customers_are_in_no_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = InferenceLog(f"sqlite:///{tmp_path / 'log.db'}", tmp_path / "spool")
    log.write(record(model_version=None, designation="geheim"))
    assert log.close()
    assert caplog.text
    assert "geheim" not in caplog.text


def test_whoever_opens_a_log_does_not_wait_for_those_who_write(server: Postgres) -> None:
    writer = Database(server.url)
    METADATA.drop_all(writer.engine)
    writer.prepare()
    with writer.engine.begin() as busy:
        row = from_line(to_line(record()))["rakuten_predictions"]
        busy.execute(METADATA.tables["rakuten_predictions"].insert(), [row])
        newcomer = Database(f"{server.url}?options=-clock_timeout%3D2s")
        newcomer.prepare()
        newcomer.close()
    writer.close()
