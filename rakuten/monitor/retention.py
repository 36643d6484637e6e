"""How long the inference log keeps what: texts and photos shorter than the rest, where they are kept at all."""

import time
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Table, delete, select

from rakuten.monitor.database import Database
from rakuten.monitor.tables import FEEDBACK, PREDICTIONS, PRODUCTS

DAY_S: Final = 86_400
CHUNK: Final = 500  # rows of a transaction, between which others write


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Days that rows are kept; None is for ever."""

    days: float | None = None  # predictions and feedback, and with them their products
    product_days: float | None = None  # texts and photos

    def __post_init__(self) -> None:
        assert all(each is None or each > 0 for each in (self.days, self.product_days))

    def apply(self, database: Database, now: float | None = None) -> int:
        """Delete what is older; the number of rows. `now` is Unix time in s.

        Raises:
            SQLAlchemyError: the database is away; some rows may be gone.
        """
        now = time.time() if now is None else now
        ages = [each for each in (self.days, self.product_days) if each is not None]
        num_deleted = _delete(database, PRODUCTS, now - min(ages) * DAY_S) if ages else 0
        if self.days is not None:
            for table in (PREDICTIONS, FEEDBACK):
                num_deleted += _delete(database, table, now - self.days * DAY_S)
        return num_deleted


def _delete(database: Database, table: Table, before: float) -> int:
    old = select(table.c.prediction_id).where(table.c.at < before).limit(CHUNK)
    statement: Any = delete(table).where(table.c.prediction_id.in_(old))
    num_deleted = 0
    while True:
        with database.engine.begin() as connection:
            in_chunk: int = connection.execute(statement).rowcount
        num_deleted += in_chunk
        if in_chunk < CHUNK:
            return num_deleted
