"""How much a server answers in time: the 99th percentile at rising rates of arrivals."""

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.servers.processes import Running

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Load:
    """How hard a server is looked at."""

    shares: tuple[float, ...]  # rates of arrivals, of what the server can do at the most
    seconds: float  # of one run at one rate
    clients: int = 8  # of the run that tells what it can do at the most


@dataclass(frozen=True)
class Measured:
    """One run at one rate; what was refused, failed or never came counts as late."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_ms: float  # of the server's processes, for an answer
    others_cores: float  # what else ran on this machine meanwhile, load and server aside


def curve(server: Running, bodies: Path, load: Load, worst_ms: float) -> tuple[list[Measured], float]:
    """Runs at rising rates until the 99th percentile passes `worst_ms`; and what the server answers a second at the most."""
    most_a_second(server, bodies, load.seconds / 3, load.clients)  # caches fill, adaptive batching learns
    most = most_a_second(server, bodies, load.seconds / 2, load.clients)
    found: list[Measured] = []
    for number, share in enumerate(load.shares):
        found.append(at_rate(server, bodies, share * most, load.seconds, seed=number))
        if found[-1].p99_ms > worst_ms:
            break
    return found, most


def most_a_second(server: Running, bodies: Path, seconds: float, clients: int = 8) -> float:
    """Answers a second where each of `clients` sends the next request when the last is answered."""
    sent = _load(server.url, bodies, "closed", clients, seconds)
    good = [each for each in sent if each["status"] == 200]
    return len(good) / max(each["at_s"] + each["ms"] / 1000 for each in sent)


def at_rate(server: Running, bodies: Path, rate: float, seconds: float, seed: int) -> Measured:
    before = server.cpu_s, _busy_s(), _children_s(), time.monotonic()
    sent = _load(server.url, bodies, "open", rate, seconds, seed)
    cpu_s, busy_s, load_s, wall_s = (
        after - start
        for after, start in zip(
            (server.cpu_s, _busy_s(), _children_s(), time.monotonic()), before, strict=True
        )
    )
    latencies = np.array([each["ms"] if each["status"] == 200 else np.inf for each in sent])
    answers = int(np.isfinite(latencies).sum())
    return Measured(
        rate,
        float(np.percentile(latencies, 50, method="higher")),
        float(np.percentile(latencies, 99, method="higher")),
        len(sent) - answers,
        1000 * cpu_s / max(1, answers),
        max(0.0, busy_s - cpu_s - load_s) / wall_s,
    )


def _busy_s() -> float:
    """CPU time of this machine so far."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _children_s() -> float:
    """CPU time of the processes of the load that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _load(url: str, bodies: Path, *arguments: object) -> list[dict[str, float]]:
    command = [sys.executable, "-m", "benchmarks.servers.load", url, str(bodies), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found: list[dict[str, float]] = json.loads(done.stdout)
    return found
