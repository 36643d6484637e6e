"""PostgreSQL: MLflow's database and a study's storage. Is it there, does it let us in, may we make tables?"""

import os
import re
import secrets
from typing import Any

from rakuten.doctor.check import Finding, error, ok, skipped
from rakuten.doctor.network import KNOCK_S, PORTS, knock
from rakuten.experiment.tracking.journal import without_password

Settings = dict[str, str]  # of a connection, by libpq's names
VARIABLES = {
    "host": "POSTGRES_HOST",
    "port": "POSTGRES_PORT",
    "user": "POSTGRES_USER",
    "password": "POSTGRES_PASSWORD",
    "dbname": "POSTGRES_DB",
}
ADDRESS = "STACK_ADDRESS"  # that a stack on this machine publishes its ports on
# libpq gives a refused login no code, only the server's words.
_REFUSALS = {
    r"password authentication failed|no password supplied": (
        "wrong password, or no such user",
        "mend user and password: POSTGRES_USER and POSTGRES_PASSWORD in .env, or those in the URI",
    ),
    r'database ".*" does not exist': (
        "there is no such database",
        "`createdb` makes it; else mend POSTGRES_DB in .env, or the URI",
    ),
    r'role ".*" does not exist': (
        "there is no such user",
        "`createuser` makes it; else mend POSTGRES_USER in .env, or the URI",
    ),
    r"pg_hba\.conf": (
        "the server does not let this user in from this machine",
        "add a line for it to the server's pg_hba.conf",
    ),
}


def check_variables() -> Finding:
    """The database that POSTGRES_* describe. Inside a stack it may be open to that stack alone."""
    named = {key: value for key, name in VARIABLES.items() if (value := os.environ.get(name, "").strip())}
    if not named:
        return skipped("no POSTGRES_* is set")
    if "host" in named:
        return look(named)
    port = int(named.get("port", PORTS["postgresql"]))
    address = os.environ.get(ADDRESS, "").strip()
    host = address if address not in ("", "0.0.0.0", "::") else "127.0.0.1"
    if problem := knock(host, port):
        return skipped(f"{problem}, and POSTGRES_HOST names no other place", "`make stack` starts one")
    return look({"host": host, **named})


def check_uri(uri: str) -> Finding:
    """The database at an address as SQLAlchemy writes it."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parsed = conninfo_to_dict(re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", uri))
    except ProgrammingError:  # its text repeats the address, password included
        return error(
            f"{without_password(uri)} is no address of a database",
            "postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ in the password",
        )
    return look({key: str(value) for key, value in parsed.items() if value is not None})


def look(settings: Settings) -> Finding:
    """Connects, asks, and makes a table that is gone again before anybody sees it."""
    import psycopg
    from psycopg.conninfo import make_conninfo

    host, port = settings.get("host", ""), settings.get("port", str(PORTS["postgresql"]))
    user, name = settings.get("user", ""), settings.get("dbname", settings.get("user", ""))
    shown = f"{user}@{host}:{port}/{name}"
    if host and not host.startswith("/") and "," not in host and (problem := knock(host, int(port))):
        return error(f"{problem} (PostgreSQL)", "start it, or mend host and port")
    try:
        asked = make_conninfo(**settings | {"connect_timeout": str(int(KNOCK_S))})
        with psycopg.connect(asked) as connection:
            return _try_out(connection, shown)
    except psycopg.OperationalError as failure:
        text = str(failure)
        for pattern, (problem, cure) in _REFUSALS.items():
            if re.search(pattern, text):
                return error(f"{shown}: {problem}", cure)
        return error(
            f"{shown}: {without_password(text.strip().splitlines()[-1])}", "see the server's own log"
        )


def _try_out(connection: Any, shown: str) -> Finding:
    import psycopg

    version = connection.execute("show server_version").fetchone()[0].split()[0]
    try:
        connection.execute(f"create table rakuten_doctor_{secrets.token_hex(8)} (x int)")
    except psycopg.errors.InsufficientPrivilege as failure:
        return error(
            f"{shown}: this user may not make tables ({failure.diag.message_primary})",
            "as the database's owner: grant create on schema public to this user",
        )
    except psycopg.errors.ReadOnlySqlTransaction:
        return error(f"{shown} can only be read, as a standby can", "name the primary server")
    finally:
        connection.rollback()
    return ok(f"{shown}: PostgreSQL {version}, and tables can be made")
