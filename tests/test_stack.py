"""`make stack` and `make stack-check`: what would stop them is said, and the processes do together what they are for."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml
from dotenv import dotenv_values

from deploy import make_env, stack
from tests.conftest import ROOT
from tests.services import free_port, program

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]


def environment(**changes: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"} | changes


def run(module: str, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a .env of its own, whose ports are free."""
    # Not below pytest's own, which every run closes to other users anew: PostgreSQL's is one where this is root's.
    with tempfile.TemporaryDirectory(prefix="rakuten-stack-") as name:
        path = Path(name)
        path.chmod(0o755)
        make_env.main(path)
        values = dotenv_values(path / ".env", interpolate=False)
        ports = {str(values[variable]): str(free_port()) for variable in stack.PORTS.values()}
        text = (path / ".env").read_text().replace("MLFLOW_WORKERS=2", "MLFLOW_WORKERS=1")
        text = re.sub(
            r"(_PORT=|127\.0\.0\.1:)(\d+)$", lambda f: f[1] + ports.get(f[2], f[2]), text, flags=re.MULTILINE
        )
        (path / ".env").write_text(text)
        yield path


def change(folder: Path, **values: str) -> None:
    path = folder / ".env"
    text = path.read_text()
    for name, value in values.items():
        text = re.sub(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
    path.write_text(text)


def test_what_would_stop_the_stack_is_said_before_it_starts(folder: Path) -> None:
    for name in ("initdb", "postgres"):
        program(name)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        change(folder, MLFLOW_PORT=port)
        done = run("deploy.stack", folder)
    assert done.returncode == 1
    assert not (folder / "outputs/stack/postgres/cluster").exists()
    port_line, address_line = done.stderr.splitlines()
    assert port_line.startswith(f"port {port} of 127.0.0.1 cannot be had")
    assert "MLFLOW_PORT in .env" in port_line
    assert address_line.endswith(f"set MLFLOW_TRACKING_URI=http://127.0.0.1:{port} in .env")


def test_a_missing_program_comes_with_its_cure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert list(stack.missing_programs("postgres")) == [
        "initdb is missing: apt-get install postgresql",
        "postgres is missing: apt-get install postgresql",
    ]
    [line] = stack.missing_programs("alertmanager")
    assert line == "prometheus-alertmanager is missing: apt-get install prometheus-alertmanager"
    [line] = stack.missing_programs("s3")
    assert line.startswith("rclone is missing: ")


@pytest.mark.parametrize("module", ["deploy.stack", "deploy.check"])
def test_a_missing_variable_comes_with_its_cure(module: str, folder: Path) -> None:
    change(folder, POSTGRES_PASSWORD="", S3_BUCKET_NAME="")
    done = run(module, folder)
    assert done.returncode == 1
    assert done.stderr == (
        "POSTGRES_PASSWORD, S3_BUCKET_NAME missing or empty in .env: .env.example says what they mean\n"
    )
    (folder / ".env").unlink()
    done = run(module, folder)
    assert done.returncode == 1
    assert done.stderr.startswith("there is no .env here: `make env` makes one")
    assert done.stderr.count("\n") == 1


def test_a_stack_with_a_real_bucket_starts_no_s3_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_PROFILES", "")
    assert stack.processes() == ["postgres", "mlflow"]
    monkeypatch.setenv("COMPOSE_PROFILES", "dev-s3")
    assert stack.processes() == ["postgres", "s3", "mlflow"]
    monkeypatch.setenv("COMPOSE_PROFILES", "dev-s3,watch")
    assert stack.processes() == ["postgres", "s3", "mlflow", "prometheus", "alertmanager"]
    monkeypatch.setenv("COMPOSE_PROFILES", "serve")
    assert stack.processes() == ["postgres", "mlflow", "serve"]


def test_a_stack_that_does_not_run_fails_its_check(folder: Path) -> None:
    done = run("deploy.check", folder)
    assert done.returncode == 1
    assert [line.split()[:2] for line in done.stderr.splitlines()] == [
        ["PostgreSQL", "FAILED"],
        ["S3", "FAILED"],
        ["MLflow", "FAILED"],
    ]


class Stack:
    """`make stack` in a folder, as a person starts and ends it."""

    def __init__(self, folder: Path):
        self.folder, self.values = folder, dict(dotenv_values(folder / ".env", interpolate=False))
        self.log = (folder / "log").open("a+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy.stack"],
            cwd=folder,
            env=environment(),
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def wait(self) -> None:
        for _ in range(600):
            assert self.process.poll() is None, self.said()
            try:
                urlopen(f"{self.values['MLFLOW_TRACKING_URI']}/health", timeout=5).close()
                return
            except (URLError, OSError):
                time.sleep(0.1)
        pytest.fail(f"MLflow did not answer\n{self.said()}")

    def left(self) -> list[str]:
        """Its processes, wherever they went: each has the stack's folder in its environment."""
        mark, found = f"POSTGRES_DATA={self.folder}/".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def sql(self, query: str, **changes: str) -> list[tuple[Any, ...]]:
        import psycopg

        names = {"user": "POSTGRES_USER", "password": "POSTGRES_PASSWORD", "dbname": "POSTGRES_DB"}
        given = {key: str(self.values[name]) for key, name in names.items()} | {"host": "127.0.0.1"} | changes
        with psycopg.connect(
            **given, port=int(str(self.values["POSTGRES_PORT"])), connect_timeout=5
        ) as connection:
            return connection.execute(query).fetchall()

    def s3(self, **changes: str) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.values["AWS_ENDPOINT_URL_S3"],
            region_name=self.values["AWS_DEFAULT_REGION"],
            config=Config(response_checksum_validation=self.values["AWS_RESPONSE_CHECKSUM_VALIDATION"]),
            aws_access_key_id=self.values["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=changes.get("secret", self.values["AWS_SECRET_ACCESS_KEY"]),
        )

    def health(self, name: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """What its container is asked whether it is well, asked of the process."""
        kind, command = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        path = os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ["PATH"], str(Path(program("psql")).parent)]
        )
        given = {key: str(self.values[key]) for key in SERVICES[name]["environment"] if key in self.values}
        return subprocess.run(
            ["sh", "-c", command.replace("$$", "$")],
            env=given | changes | {"PATH": path},
            capture_output=True,
            text=True,
        )


@contextmanager
def started(folder: Path, signum: signal.Signals) -> Iterator[Stack]:
    """A stack that answers; ended by `signum`, after which nothing of it is left."""
    running = Stack(folder)
    try:
        running.wait()
        assert len(running.left()) >= 4
        yield running
        os.killpg(running.process.pid, signum)
        running.process.wait(20)
        assert running.left() == []
    finally:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGTERM)
            running.process.wait(20)
        running.log.close()


@pytest.mark.slow
def test_the_stack_works_ends_and_keeps_its_data(folder: Path) -> None:
    import psycopg
    from botocore.exceptions import ClientError

    for name in ("initdb", "postgres", "psql"):
        program(name)
    for name in ("prometheus", "prometheus-alertmanager", "wget"):
        program(name, name)
    change(folder, COMPOSE_PROFILES="dev-s3,watch")
    here = [name for name in stack.PORTS if name != "serve"]  # another profile's; it has tests of its own
    with started(folder, signal.SIGINT) as running:
        done = run("deploy.check", folder)
        assert done.returncode == 0, done.stderr + running.said()
        assert [line.split()[:2] for line in done.stderr.splitlines()] == [
            ["PostgreSQL", "ok"],
            ["S3", "ok"],
            ["MLflow", "ok"],
            ["Prometheus", "ok"],
            ["Alertmanager", "ok"],
            ["Grafana", "ok"],
        ]
        assert {name: running.health(name).returncode for name in here} == dict.fromkeys(here, 0)
        assert running.health("postgres", POSTGRES_DB="none").returncode != 0
        assert running.health("s3", S3_BUCKET_NAME="none").returncode != 0
        assert running.health("s3", AWS_SECRET_ACCESS_KEY="wrong").returncode != 0
        assert running.health("mlflow", MLFLOW_PORT=running.values["S3_PORT"]).returncode != 0
        again = run("deploy.stack", folder)
        assert again.returncode == 1
        assert again.stderr.count("cannot be had") == len(here)
        with pytest.raises(psycopg.OperationalError, match="password"):
            running.sql("select 1", password="wrong")
        with pytest.raises(ClientError, match=r"403|SignatureDoesNotMatch|AccessDenied|Forbidden"):
            running.s3(secret="wrong").list_buckets()
        shown = [*running.left(), running.said()]
        assert not [each for each in shown for name in make_env.SECRET if str(running.values[name]) in each]
        bucket = running.values["S3_BUCKET_NAME"]
        running.s3().put_object(Bucket=bucket, Key="kept/a b é.txt", Body=b"kept")
    with started(folder, signal.SIGTERM) as running:
        # The run that `deploy.check` made and threw away, in tables that MLflow found made.
        [state] = running.sql(
            "select runs.lifecycle_stage from runs join metrics using (run_uuid) where key = 'answer'"
        )
        assert state == ("deleted",)
        kept = running.s3().get_object(Bucket=bucket, Key="kept/a b é.txt", Range="bytes=1-2")
        assert kept["Body"].read() == b"ep"
