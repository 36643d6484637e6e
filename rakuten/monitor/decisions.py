"""What was decided about a model's traffic, remembered in the log's database: since when it lasts, and when it is over."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import desc, select

from rakuten.monitor.database import READS, Database
from rakuten.monitor.drift.decision import Decision, Kind, Severity
from rakuten.monitor.tables import DECISIONS

LOOKED_BACK: Final = 1000  # decisions


@dataclass(frozen=True)
class Past:
    """A decision of before."""

    at: float  # Unix time, s
    kind: Kind
    severity: Severity
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Course:
    """What the decisions before say about the one of now."""

    since: (
        float | None
    )  # Unix time, s, of the first that said the same kind without a break; None where nothing is wrong
    resolved: Past | None  # what is over now


def remember(database: Database, model_version: str, at: float, decision: Decision) -> None:
    """
    Raises:
        RakutenError: the database holds the log of another version.
        SQLAlchemyError: it is away.
    """
    database.prepare()
    row = {
        "decision_id": uuid.uuid4().hex,
        "at": at,
        "model_version": model_version,
        "kind": decision.kind,
        "severity": decision.severity,
        "body": json.dumps(decision.to_json(), ensure_ascii=False),
    }
    with database.engine.begin() as connection:
        connection.execute(DECISIONS.insert().values(**row))


def remembered(database: Database, model_version: str) -> list[Past]:
    """What was decided about this version, newest first.

    Raises:
        RakutenError, SQLAlchemyError: as `remember`.
    """
    database.prepare()
    query = select(DECISIONS).where(DECISIONS.c.model_version == model_version)
    with database.engine.connect().execution_options(**{READS: True}) as connection:
        rows = connection.execute(query.order_by(desc(DECISIONS.c.at)).limit(LOOKED_BACK)).all()
    return [_past(row) for row in rows]


def course_of(decision: Decision, at: float, before: Sequence[Past]) -> Course:
    """`before`: newest first. A window that was too small to tell neither begins nor ends anything."""
    telling = [each for each in before if each.kind != "not_enough_data"]
    if decision.kind == "not_enough_data":
        return Course(None, None)
    if decision.severity == "none":
        was_wrong = bool(telling) and telling[0].severity != "none"
        return Course(None, telling[0] if was_wrong else None)
    since = at
    for each in telling:
        if each.kind != decision.kind or each.severity == "none":
            break
        since = each.at
    return Course(since, None)


def _past(row: Any) -> Past:
    return Past(row.at, row.kind, row.severity, tuple(json.loads(row.body)["reasons"]))
