"""Servers under load, each a process of its own on a free port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from rakuten.serve.publish import publish

ROOT = Path(__file__).parents[2]
START_S = 300


@dataclass(frozen=True)
class Server:
    """How a server is started; `batched` ones take a list of products."""

    name: str
    family: str  # ours; per request; per request, tuned; by count
    runtime: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    ready: str = "/readyz"
    batched: bool = False


@dataclass(frozen=True)
class Running:
    """Where it answers, and its processes."""

    url: str
    pid: int
    start_s: float  # until it was ready

    @property
    def cpu_s(self) -> float:
        """CPU time of all its processes so far."""
        root = psutil.Process(self.pid)
        found = 0.0
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # it ended meanwhile
                times = process.cpu_times()
                found += times.user + times.system
        return found


def ours(runtime: str, bundle: Path, **settings: object) -> Server:
    changes = {f"RAKUTEN_SERVE_{key.upper()}": str(value) for key, value in settings.items()}
    shown = [f"{key} {settings[key]}" for key in ("workers", "runners", "threads") if key in settings]
    return Server(
        ", ".join(["ours", runtime, *shown]),
        "ours",
        runtime,
        ("-m", "bentoml", "serve", "--port", "{port}"),
        {"RAKUTEN_SERVE_RUNTIME": runtime, "RAKUTEN_SERVE_CACHE_SIZE": "0", "BUNDLE": str(bundle)} | changes,
    )


def per_request(runtime: str, bundle: Path, workers: int, threads: int, *, in_loop: bool = False) -> Server:
    how = "async def" if in_loop else "def"
    return Server(
        f"FastAPI, {runtime}, {how}, {workers} x {threads} threads",
        "per request, tuned" if in_loop else "per request",
        runtime,
        (
            *("-m", "uvicorn", "benchmarks.servers.per_request:app", "--port", "{port}", "--no-access-log"),
            *("--workers", str(workers)),
        ),
        _model(runtime, bundle, threads) | {"BENCH_ASYNC": str(int(in_loop))},
        ready="/docs",
    )


def by_count(
    runtime: str, bundle: Path, batch: int, latency_ms: int, threads: int, workers: int = 1
) -> Server:
    return Server(
        f"BentoML batching, {runtime}, <= {batch} in {latency_ms} ms"
        + (f", {workers} workers" if workers > 1 else ""),
        "by count",
        runtime,
        ("-m", "bentoml", "serve", "benchmarks.servers.by_count:ByCount", "--port", "{port}"),
        _model(runtime, bundle, threads)
        | {"BENCH_BATCH": str(batch), "BENCH_LATENCY": str(latency_ms), "BENCH_WORKERS": str(workers)},
        batched=True,
    )


def _model(runtime: str, bundle: Path, threads: int) -> dict[str, str]:
    return {"BENCH_BUNDLE": str(bundle), "BENCH_RUNTIME": runtime, "BENCH_THREADS": str(threads)}


@contextmanager
def running(server: Server, folder: Path) -> Iterator["Running"]:
    """The server while it runs; its words go to a file in `folder`."""
    house = _house(folder, server) if server.family == "ours" else ROOT
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    set_here = ("RAKUTEN_", "BENTOML_", "OMP_WAIT_POLICY")  # not for a server that is to be as it comes
    kept = {key: value for key, value in os.environ.items() if not key.startswith(set_here)}
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = kept | server.environment | {"PYTHONPATH": paths, "BENTOML_DO_NOT_TRACK": "True"}
    environment["BENTOML_HOME"] = str(folder / "bentoml")
    began = time.monotonic()
    with (folder / "servers.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *(part.format(port=port) for part in server.command)],
            cwd=house,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _await(process, address + server.ready, folder)
        yield Running(address + "/predict", process.pid, time.monotonic() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):  # workers that outlived it
            os.killpg(process.pid, signal.SIGKILL)


def _await(process: "subprocess.Popen[bytes]", address: str, folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            words = (folder / "servers.log").read_text(errors="replace").splitlines()[-30:]
            sys.exit("\n".join(["the server is not ready:", *words]))
        try:
            with urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.2)


def _house(folder: Path, server: Server) -> Path:
    """Where `bentoml serve` finds settings and a champion."""
    house = folder / "house"
    if not house.exists():
        (house / "outputs").mkdir(parents=True)
        for name in ("conf", "bentofile.yaml"):
            (house / name).symlink_to(ROOT / name)
    bundle = Path(server.environment["BUNDLE"])
    publish(house / "outputs", model="rakuten", version="1", run_id="none", uuid=None, bundle=bundle)
    return house
