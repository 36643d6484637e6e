"""The inference log read back: records as they were written, what came back about them, and products where they are kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Row, Select, and_, desc, or_, select

from rakuten.data.labels import Code
from rakuten.data.statistics import InputStatistics
from rakuten.monitor.database import READS, Database
from rakuten.monitor.record import Floats, PredictionRecord
from rakuten.monitor.tables import FEEDBACK, PREDICTIONS, PRODUCTS, SCALARS, STATISTICS

PAGE: Final = (
    1000  # rows of a query; a reader that holds a transaction for long keeps SQLite's journal growing
)
IDS_AT_ONCE: Final = 500


@dataclass(frozen=True)
class StoredProduct:
    """What a customer sent, where storing it was chosen."""

    designation: str | None
    description: str | None
    image: bytes | None


class LogReader:
    """Reads a log while others write it.

    A row arrives some tenths of a second after its answer, or, after an outage, much later: a window that ends now may
    grow still.

    Args:
        codes: the model's; an answer is given as the one of them that is written alike, else as text.

    Raises:
        RakutenError: the URL is none; when reading, the database holds the log of another version.
        SQLAlchemyError: when reading, the database is away.
    """

    def __init__(self, url: str, codes: Sequence[Code] = ()):
        self._database = Database(url)
        self._code_of: dict[str, Code] = {str(code): code for code in codes}

    def records(
        self,
        *,
        since: float = float("-inf"),
        until: float = float("inf"),
        model_version: str | None = None,
        newest: int | None = None,
    ) -> list[PredictionRecord]:
        """Records with since <= at < until (Unix time, s), oldest first; of more than `newest` the newest."""
        if newest is None:
            pages = self.stream(since=since, until=until, model_version=model_version)
            return [record for page in pages for record in page]
        query = _between(since, until, model_version)
        query = query.order_by(desc(PREDICTIONS.c.at), desc(PREDICTIONS.c.prediction_id)).limit(newest)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [self._record(row) for row in reversed(rows)]

    def stream(
        self,
        *,
        since: float = float("-inf"),
        until: float = float("inf"),
        model_version: str | None = None,
        page: int = PAGE,
    ) -> Iterator[list[PredictionRecord]]:
        """As `records`, a page at a time."""
        at, prediction_id = PREDICTIONS.c.at, PREDICTIONS.c.prediction_id
        query = _between(since, until, model_version).order_by(at, prediction_id).limit(page)
        rest = query
        while True:
            with self._reading() as connection:
                rows = connection.execute(rest).all()
            if rows:
                yield [self._record(row) for row in rows]
            if len(rows) < page:
                return
            last = rows[-1]
            rest = query.where(or_(at > last.at, and_(at == last.at, prediction_id > last.prediction_id)))

    def feedback(self, prediction_ids: Sequence[str]) -> dict[str, Code]:
        """What these answers should have been, of those that somebody said something about."""
        query = select(FEEDBACK.c.prediction_id, FEEDBACK.c.code)
        rows = self._of_ids(query, FEEDBACK.c.prediction_id, prediction_ids)
        return {row.prediction_id: self._code(row.code) for row in rows}

    def answers(self, prediction_ids: Sequence[str]) -> dict[str, tuple[str, Code]]:
        """Model version and code of these predictions, of those that are here."""
        query = select(PREDICTIONS.c.prediction_id, PREDICTIONS.c.model_version, PREDICTIONS.c.code)
        rows = self._of_ids(query, PREDICTIONS.c.prediction_id, prediction_ids)
        return {row.prediction_id: (row.model_version, self._code(row.code)) for row in rows}

    def products(self, prediction_ids: Sequence[str]) -> dict[str, StoredProduct]:
        """What was asked, of those that are kept."""
        rows = self._of_ids(select(PRODUCTS), PRODUCTS.c.prediction_id, prediction_ids)
        return {row.prediction_id: StoredProduct(row.designation, row.description, row.image) for row in rows}

    def close(self) -> None:
        self._database.close()

    def _reading(self) -> Connection:
        self._database.prepare()
        return self._database.engine.connect().execution_options(**{READS: True})

    def _of_ids(self, query: Select[Any], column: Any, ids: Sequence[str]) -> Iterator[Row[Any]]:
        for start in range(0, len(ids), IDS_AT_ONCE):
            with self._reading() as connection:
                yield from connection.execute(query.where(column.in_(ids[start : start + IDS_AT_ONCE]))).all()

    def _code(self, text: str) -> Code:
        return self._code_of.get(text, text)

    def _record(self, row: Row[Any]) -> PredictionRecord:
        values = row._mapping
        scalars = {name: values[name] for name in SCALARS}
        for name in ("code", "shadow_code"):
            scalars[name] = None if scalars[name] is None else self._code(scalars[name])
        return PredictionRecord(
            prediction_id=row.prediction_id,
            statistics=InputStatistics(**{name: values[name] for name in STATISTICS}),
            probs=np.frombuffer(row.probs, dtype="<f4"),
            text_embedding=_from_half(row.text_embedding),
            image_embedding=_from_half(row.image_embedding),
            **scalars,
        )


def _between(since: float, until: float, model_version: str | None) -> Select[Any]:
    query = select(PREDICTIONS).where(PREDICTIONS.c.at >= since, PREDICTIONS.c.at < until)
    return query if model_version is None else query.where(PREDICTIONS.c.model_version == model_version)


def _from_half(data: bytes | None) -> Floats | None:
    return None if data is None else np.frombuffer(data, dtype="<f2").astype(np.float32)
