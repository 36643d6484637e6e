"""Which answers are looked at together."""

from pathlib import Path

from rakuten.monitor.log import InferenceLog
from rakuten.monitor.reader import LogReader
from rakuten.monitor.record import PredictionRecord
from rakuten.monitor.windows import newest_windows, windows_between
from tests.monitor.records import record


def reader(folder: Path, records: list[PredictionRecord]) -> LogReader:
    log = InferenceLog(f"sqlite:///{folder / 'log.db'}", folder / "spool")
    for each in records:
        log.write(each)
    assert log.close()
    return LogReader(f"sqlite:///{folder / 'log.db'}")


def times(windows: list[list[PredictionRecord]]) -> list[list[float]]:
    return [[each.at for each in window] for window in windows]


def test_windows_have_so_many_different_products_of_one_version(tmp_path: Path) -> None:
    """A probe that asks for one product again and again fills no window."""
    kinds = [1, 2, 3, 4, 4, 4, 5, 6]
    records = [record(kind, at=float(at)) for at, kind in enumerate(kinds)]
    found = reader(tmp_path, [*records, record(9, at=99.0, model_version="8")])
    assert times(newest_windows(found, "7", products=2, windows=2)) == [[2.0, 3.0, 4.0, 5.0], [6.0, 7.0]]
    assert times(newest_windows(found, "7", products=4, windows=7)) == [[2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]
    assert len(newest_windows(found, "7", products=100, windows=7)[0]) == 8
    assert newest_windows(found, "1", products=2, windows=2) == []
    found.close()


def test_a_span_of_time_and_those_before_it(tmp_path: Path) -> None:
    found = reader(tmp_path, [record(at, at=float(at)) for at in (5, 11, 12, 20, 25)])
    assert times(windows_between(found, "7", 20, 30, windows=7)) == [[5.0], [11.0, 12.0], [20.0, 25.0]]
    assert windows_between(found, "7", 30, 40, windows=7) == []
    found.close()
