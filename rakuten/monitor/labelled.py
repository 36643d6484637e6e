"""Products of the log that somebody gave a category: what a model can learn from that is not in its catalogue."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, or_, select

from rakuten.monitor.database import READS, Database
from rakuten.monitor.tables import FEEDBACK, PRODUCTS


@dataclass(frozen=True)
class Labels:
    """How many there are."""

    given: int  # answers that somebody gave a category
    kept: int  # of those, products whose text or photo the log has


@dataclass(frozen=True)
class LabelledProduct:
    """As it was sent, with its category as a file has it."""

    prediction_id: str
    code: str
    designation: str | None
    description: str | None
    image: bytes | None


def labels_in(database: Database) -> Labels:
    """
    Raises:
        RakutenError: the database holds the log of another version.
        SQLAlchemyError: it is away.
    """
    database.prepare()
    with database.engine.connect().execution_options(**{READS: True}) as connection:
        given = connection.execute(select(func.count()).select_from(FEEDBACK)).scalar_one()
        kept = connection.execute(select(func.count()).select_from(_kept().subquery())).scalar_one()
    return Labels(given, kept)


def labelled_products(database: Database) -> Iterator[LabelledProduct]:
    """All of them, in the order of their ids, a hundred at a time in memory. Raises as `labels_in`."""
    database.prepare()
    last = ""
    while True:
        query = _kept().where(PRODUCTS.c.prediction_id > last).order_by(PRODUCTS.c.prediction_id).limit(100)
        with database.engine.connect().execution_options(**{READS: True}) as connection:
            rows = connection.execute(query).all()
        for row in rows:
            yield LabelledProduct(row.prediction_id, row.code, row.designation, row.description, row.image)
        if not rows:
            return
        last = rows[-1].prediction_id


def _kept() -> Select[Any]:
    has_content = or_(*(PRODUCTS.c[name].is_not(None) for name in ("designation", "description", "image")))
    return (
        select(PRODUCTS, FEEDBACK.c.code)
        .join(FEEDBACK, FEEDBACK.c.prediction_id == PRODUCTS.c.prediction_id)
        .where(has_content)
    )
