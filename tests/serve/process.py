"""`bentoml serve` as a shell would start it: a process of its own on a free port, in a folder of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from rakuten.serve.publish import publish
from tests.conftest import ROOT
from tests.services import free_port

LINKED = ("conf", "bentofile.yaml")  # of the repository: what `bentoml serve` finds where it is started
START_S = 400


def house(folder: Path, bundle: Path | None = None, version: str = "1") -> Path:
    """A folder to serve from, with outputs of its own; `bundle` is published there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / "outputs").mkdir()
    if bundle is not None:
        promote(folder / "outputs", bundle, version)
    return folder


def promote(outputs: Path, bundle: Path, version: str) -> Path:
    """Publish, as scripts/promote.py does once the gate has let a bundle through."""
    return publish(
        outputs, model="rakuten", version=version, run_id=f"run-{version}", uuid=None, bundle=bundle
    )


class Service:
    """A service that runs: `url`, `process`, `outputs`, and what it `said` so far."""

    def __init__(
        self,
        folder: Path,
        *,
        command: Sequence[str] = (sys.executable, "-m", "bentoml", "serve"),
        variables: Mapping[str, str] | None = None,
        **settings: object,
    ):
        """`settings` are keys of conf/serve.yaml; one below `limits` is written limits__body_bytes."""
        self._command = command
        self.folder, self.outputs = folder, folder / "outputs"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = environment(folder, settings) | {
            "BENTOML_PORT": str(self.port),
            **(variables or {}),
        }
        self.stderr = folder / f"service-{self.port}.log"
        self.process: subprocess.Popen[bytes] = self._start()

    @property
    def said(self) -> str:
        return self.stderr.read_text(encoding="utf-8", errors="replace")

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that answer, without their supervisor."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in found if "_bentoml_impl.worker.service" in " ".join(_command(each))]

    def wait(self, holds: Callable[[], Any], timeout_s: float = START_S) -> Any:
        """What `holds` gives once it gives something; fails where the service ends or it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not (found := holds()):
            assert self.process.poll() is None, (
                f"the service ended with {self.process.returncode}: {self.said}"
            )
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)
        return found

    def wait_until_ready(self) -> "Service":
        self.wait(lambda: self.status("/readyz") == 200)
        return self

    def wait_until_alive(self) -> "Service":
        """For a service that has no model to be ready with."""
        self.wait(lambda: self.status("/livez") == 200)
        return self

    def status(self, path: str) -> int | None:
        """None where nothing answers."""
        try:
            return httpx.get(self.url + path, timeout=10, trust_env=False).status_code
        except httpx.TransportError:
            return None

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def terminate(self, timeout_s: float = 60) -> int:
        """SIGTERM to the supervisor; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """The whole tree, whatever state it is in."""
        try:
            tree = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            tree = []
        self.process.kill()
        for each in tree:
            if each.is_running():
                each.kill()
        self.process.wait()
        psutil.wait_procs(tree, timeout=10)

    def _start(self) -> "subprocess.Popen[bytes]":
        with self.stderr.open("wb") as log:
            return subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def environment(folder: Path, settings: dict[str, object]) -> dict[str, str]:
    """This process's, without what is set for a service of its own, and with a BentoML home in `folder`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAKUTEN_", "BENTOML_"))}
    kept |= {
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return kept | {f"RAKUTEN_SERVE_{key.upper()}": str(value) for key, value in settings.items()}


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
