"""PostgreSQL: every usual mistake against a real server that asks for passwords."""

from collections.abc import Iterator

import psycopg
import pytest

from rakuten.doctor.check import Severity
from rakuten.doctor.postgres import check_uri, check_variables
from tests.doctor.conftest import assert_finding
from tests.services import Postgres, free_port, postgres

OK, SKIPPED, ERROR = Severity.OK, Severity.SKIPPED, Severity.ERROR
PASSWORD = "it's p@ss"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("database")) as running:
        with psycopg.connect(running.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("create role shop login password 'it''s p@ss'")
            connection.execute("create role guest login password 'it''s p@ss'")
            connection.execute("create database shop owner shop")
            rules = [
                "host all postgres 127.0.0.1/32 trust",
                "host postgres guest 127.0.0.1/32 reject",
                "host all all 127.0.0.1/32 scram-sha-256",
            ]
            (running.folder / "pg_hba.conf").write_text("\n".join(rules) + "\n")
            connection.execute("select pg_reload_conf()")
        yield running


@pytest.fixture
def configured(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of the database's owner."""
    values = {"HOST": "127.0.0.1", "PORT": server.port, "USER": "shop", "PASSWORD": PASSWORD, "DB": "shop"}
    for name, value in values.items():
        monkeypatch.setenv(f"POSTGRES_{name}", str(value))
    return monkeypatch


def test_no_database_is_asked_for() -> None:
    assert_finding(check_variables(), SKIPPED, "no POSTGRES_* is set")


def test_tables_can_be_made_and_none_is_left(configured: pytest.MonkeyPatch, server: Postgres) -> None:
    assert_finding(check_variables(), OK, f"shop@127.0.0.1:{server.port}/shop: PostgreSQL 1", "tables")
    with psycopg.connect(f"postgresql://postgres@127.0.0.1:{server.port}/shop") as connection:
        count = connection.execute("select count(*) from pg_tables where tablename like 'rakuten%'")
        assert count.fetchone() == (0,)


def test_a_wrong_password(configured: pytest.MonkeyPatch) -> None:
    configured.setenv("POSTGRES_PASSWORD", "hunter2")
    finding = check_variables()
    assert_finding(finding, ERROR, "wrong password", cure="POSTGRES_PASSWORD")
    assert "hunter2" not in str(finding)


def test_no_password(configured: pytest.MonkeyPatch) -> None:
    configured.delenv("POSTGRES_PASSWORD")
    assert_finding(check_variables(), ERROR, "wrong password", cure="POSTGRES_PASSWORD")


def test_no_such_database(configured: pytest.MonkeyPatch) -> None:
    configured.setenv("POSTGRES_DB", "shoop")
    assert_finding(check_variables(), ERROR, "/shoop: there is no such database", cure="POSTGRES_DB")


def test_no_such_user(configured: pytest.MonkeyPatch, server: Postgres) -> None:
    rules = (server.folder / "pg_hba.conf").read_text()
    admin = server.url.replace("+psycopg", "")
    try:
        with psycopg.connect(admin) as connection:
            (server.folder / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
            connection.execute("select pg_reload_conf()")
        assert_finding(
            check_uri(f"postgresql://nobody@127.0.0.1:{server.port}/shop"), ERROR, "there is no such user"
        )
    finally:
        with psycopg.connect(admin) as connection:
            (server.folder / "pg_hba.conf").write_text(rules)
            connection.execute("select pg_reload_conf()")


def test_a_machine_that_is_not_let_in(configured: pytest.MonkeyPatch) -> None:
    configured.setenv("POSTGRES_USER", "guest")
    configured.setenv("POSTGRES_DB", "postgres")
    assert_finding(check_variables(), ERROR, "does not let this user in", cure="pg_hba.conf")


def test_no_right_to_make_tables(configured: pytest.MonkeyPatch) -> None:
    configured.setenv("POSTGRES_USER", "guest")
    assert_finding(check_variables(), ERROR, "may not make tables", cure="grant create on schema public")


def test_nobody_listens(configured: pytest.MonkeyPatch) -> None:
    port = free_port()
    configured.setenv("POSTGRES_PORT", str(port))
    assert_finding(check_variables(), ERROR, f"nobody listens at 127.0.0.1:{port}", cure="start it")


def test_a_database_inside_a_stack_need_not_be_reached_from_here(configured: pytest.MonkeyPatch) -> None:
    configured.delenv("POSTGRES_HOST")
    configured.setenv("POSTGRES_PORT", str(free_port()))
    assert_finding(check_variables(), SKIPPED, "nobody listens at 127.0.0.1", cure="make stack")


def test_an_address_as_tracking_and_sweeps_give_it(server: Postgres) -> None:
    place = f"127.0.0.1:{server.port}/shop"
    assert_finding(check_uri(f"postgresql+psycopg://shop:it's%20p%40ss@{place}"), OK, f"shop@{place}")
    finding = check_uri(f"postgresql+psycopg://shop:hunter2@{place}")
    assert_finding(finding, ERROR, "wrong password")
    assert "hunter2" not in str(finding)


def test_an_address_that_is_none() -> None:
    finding = check_uri("postgresql://shop:hunter2@[::1/shop")
    assert_finding(finding, ERROR, "is no address of a database", cure="USER:PASSWORD@HOST")
    assert "hunter2" not in str(finding)


def test_a_standby_can_only_be_read(configured: pytest.MonkeyPatch, server: Postgres) -> None:
    address = (
        f"postgresql://postgres@127.0.0.1:{server.port}/shop?options=-cdefault_transaction_read_only%3Don"
    )
    assert_finding(check_uri(address), ERROR, "can only be read", cure="primary")
