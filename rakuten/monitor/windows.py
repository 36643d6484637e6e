"""Which answers of the log are looked at together: the newest window, and as many before it as the longest scale needs."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Final

from rakuten.monitor.drift.window import product_key
from rakuten.monitor.reader import LogReader
from rakuten.monitor.record import PredictionRecord

READ_PER_PRODUCT: Final = 4  # answers read at most for each product that is wanted: clients repeat themselves

Records = list[PredictionRecord]


def newest_windows(reader: LogReader, version: str, *, products: int, windows: int) -> list[Records]:
    """Windows of so many different products each, oldest first. The only one may have fewer; none is empty.

    Raises:
        RakutenError, SQLAlchemyError: as `LogReader`.
    """
    most = READ_PER_PRODUCT * products * windows
    records = reader.records(model_version=version, newest=most)
    cut = list(_cut(records, products))[:windows]
    # What is left over at the far end is no window of its own, unless there is no other.
    whole = [each for each in cut if _different(each) >= products] or cut[:1]
    return whole[::-1]


def windows_between(
    reader: LogReader, version: str, since: float, until: float, *, windows: int
) -> list[Records]:
    """What was answered since <= at < until (Unix time, s), and in as many spans of that length before, oldest first.

    Raises:
        RakutenError, SQLAlchemyError: as `LogReader`.
    """
    span = until - since
    found = [
        reader.records(since=since - number * span, until=until - number * span, model_version=version)
        for number in range(windows)
    ]
    filled = found[: next((i for i, each in enumerate(found) if not each), len(found))]
    return filled[::-1]


def _cut(records: Sequence[PredictionRecord], products: int) -> Iterator[Records]:
    """From the newest back, each as soon as it has so many different products; the rest last."""
    window: Records = []
    seen: set[Hashable] = set()
    for record in reversed(records):
        window.append(record)
        seen.add(product_key(record))
        if len(seen) == products:
            yield window[::-1]
            window, seen = [], set()
    if window:
        yield window[::-1]


def _different(records: Sequence[PredictionRecord]) -> int:
    return len({product_key(each) for each in records})
