"""The newest word of those who watch, where the service finds it and shows it to Prometheus: in the log's database."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select

from rakuten.monitor.database import READS, Database, insert_into
from rakuten.monitor.tables import FINDINGS

DRIFT: Final = "drift"


@dataclass(frozen=True)
class Finding:
    """What somebody found out, JSON types only."""

    name: str
    at: float  # Unix time, s
    body: Mapping[str, Any]


def publish(database: Database, finding: Finding) -> None:
    """Put it in the place of the one of the same name, unless that is newer.

    Raises:
        RakutenError: the database holds the log of another version.
        SQLAlchemyError: it is away.
    """
    database.prepare()
    with database.engine.begin() as connection:
        insert = insert_into(FINDINGS, connection)
        new = insert.excluded
        update = insert.on_conflict_do_update(
            index_elements=["name"],
            set_={"at": new.at, "body": new.body},
            where=new.at >= FINDINGS.c.at,
        )
        body = json.dumps(finding.body, ensure_ascii=False)
        connection.execute(update, {"name": finding.name, "at": finding.at, "body": body})


def found(database: Database) -> list[Finding]:
    """All there is.

    Raises:
        RakutenError, SQLAlchemyError: as `publish`.
    """
    database.prepare()
    with database.engine.connect().execution_options(**{READS: True}) as connection:
        rows = connection.execute(select(FINDINGS)).all()
    return [Finding(row.name, row.at, json.loads(row.body)) for row in rows]
