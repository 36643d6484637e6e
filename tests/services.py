"""Real servers for tests, each started on a free port and stopped again; skipped only where the program cannot be had."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from rakuten.config import TrackingConfig


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def program(name: str, package: str = "postgresql") -> str:
    """Where a program lies; skips the test where it is missing, which fails it where CI is to have installed it."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    found = shutil.which(name) or (str(places[0]) if places else None)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is missing: .ci/run installs it")
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install {package}")
    return found


class MlflowServer:
    """`mlflow server` on a port of its own, to be killed and started again; on SQLite and a folder, unless told."""

    def __init__(
        self, folder: Path, database: str | None = None, bucket: str | None = None, **environment: str
    ):
        self.folder = folder
        self._database = database or f"sqlite:///{folder / 'server.db'}"
        self._artifacts = bucket or str(folder / "artifacts")
        self._environment = environment
        self.uri = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> TrackingConfig:
        return TrackingConfig(kind="mlflow", uri=self.uri, artifact_root=None, experiment="rakuten")

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--port", self.uri.rpartition(":")[2]),
                *("--backend-store-uri", self._database),
                *("--artifacts-destination", self._artifacts),
            ],
            cwd=self.folder,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # its workers are killed with it
        )
        while True:
            assert self._process.poll() is None, "the server ended"
            try:
                urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except (URLError, OSError):
                time.sleep(0.1)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    folder.mkdir()
    server = MlflowServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Postgres:
    """A PostgreSQL server with a data folder of its own, that can be stopped and started again."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder / "postgres", free_port()
        self._programs = {name: program(name) for name in ("initdb", "postgres")}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            if os.getuid() == 0:
                shutil.chown(self.folder, "postgres")
                for parent in self.folder.parents:  # a test's folder is its user's alone
                    if parent.stat().st_mode & 0o001 == 0:
                        parent.chmod(parent.stat().st_mode | 0o011)
            self._run(
                ["initdb", "-D", str(self.folder), "-U", "postgres", "--auth=trust", "--no-sync"]
            ).wait()
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
        self._process = self._run(["postgres", "-D", str(self.folder), "-p", str(self.port), *settings])
        for _ in range(300):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", self.port)) == 0:
                    time.sleep(0.3)  # it listens a moment before it lets in
                    return
            assert self._process.poll() is None, "postgres did not start"
            time.sleep(0.1)
        pytest.fail("postgres did not answer")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # at once, connections cut
            self._process.wait(30)
            self._process = None

    def _run(self, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        name, *arguments = command
        # It refuses to run as root.
        user = "postgres" if os.getuid() == 0 else None
        return subprocess.Popen(
            [self._programs[name], *arguments],
            user=user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class S3Server:
    """An S3 endpoint (moto) in a process of its own, in whose memory all buckets are: they go when it ends.

    Every access key is as good as any other until `enforce_rights`, from when on only users of its IAM get in.
    """

    def __init__(self) -> None:
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", self.endpoint.rpartition(":")[2]],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while True:
            assert self._process.poll() is None, "moto ended"
            try:
                urlopen(f"{self.endpoint}/moto-api/", timeout=5).close()
                return
            except (URLError, OSError):
                time.sleep(0.1)

    def client(self, service: str = "s3", key_id: str = "any", secret: str = "any") -> Any:
        """boto3's client of this endpoint, whatever the environment says."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
        )

    def enforce_rights(self, enforce: bool = True) -> None:
        address, plain = f"{self.endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urlopen(Request(address, b"0" if enforce else b"inf", plain), timeout=5).close()

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, signum: int) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(30)
            self._process = None


@contextmanager
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Door:
    """A port that leads to another one while it is open: behind it a server is away, and loses nothing."""

    _PROGRAM = """
import asyncio, sys
async def pipe(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
async def enter(reader, writer):
    inside = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(pipe(reader, inside[1]), pipe(inside[0], writer), return_exceptions=True)
async def main():
    async with await asyncio.start_server(enter, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()
asyncio.run(main())
"""

    def __init__(self, endpoint: str):
        self._inside, self._port = endpoint.rpartition(":")[2], free_port()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        command = [sys.executable, "-c", self._PROGRAM, str(self._port), self._inside]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while True:
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.05)

    def shut(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@dataclass
class Team:
    """What a team shares: MLflow, its runs in PostgreSQL, its files in a bucket behind a door."""

    database: Postgres
    bucket: S3Server
    door: Door
    mlflow: MlflowServer
    name = "team"  # the bucket's

    def keys(self) -> list[str]:
        """Objects in the bucket."""
        pages = self.bucket.client().get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]


@contextmanager
def team(folder: Path) -> Iterator[Team]:
    folder.mkdir()
    with postgres(folder) as database, s3_server() as bucket:
        bucket.client().create_bucket(Bucket=Team.name)
        door = Door(bucket.endpoint)
        door.open()
        server = MlflowServer(
            folder,
            database.url,
            f"s3://{Team.name}/mlflow",
            MLFLOW_S3_ENDPOINT_URL=door.endpoint,
            AWS_ACCESS_KEY_ID="any",
            AWS_SECRET_ACCESS_KEY="any",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_MAX_ATTEMPTS="1",
        )
        try:
            server.start()
            yield Team(database, bucket, door, server)
        finally:
            server.kill()
            door.shut()
