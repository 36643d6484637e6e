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
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from rakuten.config import TrackingConfig


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def program(name: str) -> str:
    """Where a program lies; skips the test where it is missing, which fails it where CI is to have installed it."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    found = shutil.which(name) or (str(places[0]) if places else None)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is missing: .ci/run installs it")
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install postgresql")
    return found


class MlflowServer:
    """`mlflow server` on a port of its own, to be killed and started again."""

    def __init__(self, folder: Path):
        self.folder = folder
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
                *("--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"),
                *("--artifacts-destination", str(self.folder / "artifacts")),
            ],
            cwd=self.folder,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
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
