"""The database of the inference log: SQLite or PostgreSQL, opened, checked and written to."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.schema import CreateIndex, CreateTable

from rakuten.errors import RakutenError
from rakuten.monitor.tables import FEEDBACK, METADATA, PREDICTIONS, PRODUCTS, SCHEMA, VERSION

Row = Mapping[str, Any]
BUSY_S: Final = 5.0  # SQLite: how long another process's transaction is waited for
CONNECT_S: Final = 5
READS: Final = "rakuten_reads"  # execution option of a connection that writes nothing
_ADVISORY_LOCK: Final = (
    0x52616B75  # PostgreSQL: two that create the same tables at once get in each other's way
)
_logger = logging.getLogger(__name__)


class Database:
    """Connections to the log's database. Nothing is connected before it is needed.

    Raises:
        RakutenError: the URL is neither SQLite's, with a file, nor PostgreSQL's.
    """

    def __init__(self, url: str):
        self.url = _checked(url)
        self.engine = _engine(self.url)
        self._prepared = False

    def prepare(self) -> None:
        """Make the tables that are missing.

        Raises:
            RakutenError: the database holds the log of another version.
            SQLAlchemyError: it is away.
        """
        if self._prepared:
            return
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
            # What is there is left alone: making it "if not exists" would wait for, or deadlock with, whoever writes.
            there = inspect(connection)
            for table in METADATA.sorted_tables:
                if not there.has_table(table.name):
                    connection.execute(CreateTable(table, if_not_exists=True))
                if table is VERSION:
                    _check_version(connection, self.url)
                indexed = {index["name"] for index in there.get_indexes(table.name)}
                for index in sorted(table.indexes, key=lambda each: str(each.name)):
                    if index.name not in indexed:
                        connection.execute(CreateIndex(index, if_not_exists=True))
        self._prepared = True

    def insert(self, entries: Sequence[Mapping[str, Row]]) -> list[int]:
        """Rows by table, all in one transaction; those that are there already stay. Which entries were refused.

        Raises:
            RakutenError, SQLAlchemyError: as `prepare`; nothing was written.
        """
        self.prepare()
        try:
            with self.engine.begin() as connection:
                _insert(connection, entries)
        except Exception as error:
            if not _is_refusal(error):
                raise
            if len(entries) > 1:  # one of them is to blame
                return [index for index, entry in enumerate(entries) if self.insert([entry])]
            # Its text holds the row, which is a customer's.
            _logger.error("the inference log's database refuses a row (%s)", type(error).__name__)
            return [0]
        return []

    def close(self) -> None:
        self.engine.dispose()


def _insert(connection: Connection, entries: Sequence[Mapping[str, Row]]) -> None:
    for table in (PREDICTIONS, PRODUCTS, FEEDBACK):
        rows = [entry[table.name] for entry in entries if table.name in entry]
        if rows:
            connection.execute(_statement(table, connection), rows)


def insert_into(table: Table, connection: Connection) -> Any:
    """An INSERT that knows ON CONFLICT."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def _statement(table: Table, connection: Connection) -> Any:
    insert = insert_into(table, connection)
    if table is not FEEDBACK:
        return insert.on_conflict_do_nothing(index_elements=["prediction_id"])
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=["prediction_id"],
        set_={"code": new.code, "at": new.at, "key_name": new.key_name},
        where=new.at >= table.c.at,
    )


def _is_refusal(error: Exception) -> bool:
    """The rows' fault, and so the same next time; an outage is not."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError)
    return isinstance(error, StatementError | OverflowError | ValueError | TypeError)


def _check_version(connection: Connection, url: URL) -> None:
    found = connection.execute(select(VERSION.c.version)).scalars().all()
    if not found:
        connection.execute(VERSION.insert().values(version=SCHEMA))
    elif found != [SCHEMA]:
        raise RakutenError(
            f"the inference log at {url.render_as_string(hide_password=True)} is of another version",
            expected=f"version {SCHEMA}",
            got=", ".join(f"version {each}" for each in found),
            fix="give another database, or keep reading this one with the version that wrote it",
        )


def _checked(url: str) -> URL:
    example = "sqlite:///outputs/inference.db or postgresql+psycopg://user:password@host/name"
    try:
        parsed = make_url(url)
    except ArgumentError:  # its text may hold a password
        raise RakutenError("the inference log's URL is none", expected=example) from None
    if parsed.drivername not in ("sqlite", "postgresql+psycopg") or (
        parsed.drivername == "sqlite" and parsed.database in (None, "", ":memory:")
    ):
        got = parsed.render_as_string(hide_password=True)
        raise RakutenError("no database for the inference log", expected=example, got=got)
    return parsed


def _engine(url: URL) -> Engine:
    if url.drivername == "sqlite":
        assert url.database is not None
        Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_S})
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _begin_immediate)
        return engine
    # A server that vanished without a word is noticed within seconds, not after the system's quarter of an hour.
    patience = {"connect_timeout": CONNECT_S, "tcp_user_timeout": 15_000, "keepalives_idle": 15}
    return create_engine(url, hide_parameters=True, pool_size=1, pool_pre_ping=True, connect_args=patience)


def _on_sqlite_connect(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_immediate(connection: Connection) -> None:
    """A reader that turns writer is refused at once where another has written meanwhile; a writer from the start waits."""
    reads = connection.get_execution_options().get(READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
