"""How much a server answers in time: the 99th percentile at rising rates of arrivals."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import psutil

from benchmarks.servers.processes import Running, Server, running

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Load:
    """How hard a server is looked at."""

    shares: tuple[float, ...]  # rates of arrivals, of what the server can do at the most
    seconds: float  # of one run at one rate, at least
    requests: int = 200  # of one run, at least: a 99th percentile of few is their slowest
    clients: int = 8  # of the run that tells what it can do at the most
    processes: int = 1  # that send: one keeps up with some hundred requests a second


@dataclass(frozen=True)
class Measured:
    """One run at one rate; what was refused, failed or never came counts as late."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_ms: float  # of the server's processes, for an answer
    others_cores: float  # what else ran on this machine meanwhile, load and server aside


@dataclass(frozen=True)
class Row:
    """What was seen of one server."""

    server: Server
    runs: list[Measured]
    most: float
    start_s: float  # until it was ready

    def rate(self, bound_ms: float) -> float:
        """The rate at which the 99th percentile passes the bound, log-linear between two runs; 0 if the first is above it."""
        within = list(takewhile(lambda run: run.p99_ms <= bound_ms, self.runs))
        if not within:
            return 0.0
        ends = self.runs[len(within) - 1 : len(within) + 1]
        return float(
            np.interp(np.log(bound_ms), np.log([run.p99_ms for run in ends]), [run.rate for run in ends])
        )


def _heading(bounds_ms: Sequence[float]) -> str:
    """The head of the table whose lines are rows."""
    columns = (
        "server",
        "answers/s at the most",
        *(f"requests/s at p99 <= {bound} ms" for bound in bounds_ms),
        "CPU, ms an answer",
        "other programs, cores",
    )
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def _line(row: Row, bounds_ms: Sequence[float]) -> str:
    cells = [row.server.name, f"{row.most:.1f}", *(f"{row.rate(bound):.1f}" for bound in bounds_ms)]
    cells += [
        f"{min((run.cpu_ms for run in row.runs), default=float('nan')):.0f}",
        f"{max((run.others_cores for run in row.runs), default=float('nan')):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def measure(servers: Sequence[Server], folder: Path, load: Load, bounds_ms: Sequence[float]) -> list[Row]:
    """Each server in turn with the requests that lie in `folder`; a line is printed when it is done."""
    print(_heading(bounds_ms))
    rows = []
    for server in servers:
        with running(server, folder) as started:
            runs, most = curve(
                started, folder / ("lists" if server.batched else "single"), load, max(bounds_ms)
            )
        rows.append(Row(server, runs, most, started.start_s))
        print(_line(rows[-1], bounds_ms), flush=True)
    return rows


def curve(server: Running, bodies: Path, load: Load, worst_ms: float) -> tuple[list[Measured], float]:
    """Runs at rising rates until the 99th percentile passes `worst_ms`; and what the server answers a second at the most."""
    for part in (1 / 3, 1 / 2):  # in the first one caches fill and adaptive batching learns
        most = most_a_second(server, bodies, part * load.seconds, load.clients, load.processes)
    found: list[Measured] = []
    if most == 0:
        return found, most
    for number, share in enumerate(load.shares):
        rate = share * most
        seconds = max(load.seconds, load.requests / rate)
        found.append(at_rate(server, bodies, rate, seconds, seed=number, processes=load.processes))
        if found[-1].p99_ms > worst_ms:
            break
    return found, most


def most_a_second(
    server: Running, bodies: Path, seconds: float, clients: int = 8, processes: int = 1
) -> float:
    """Answers a second where each of `clients` sends the next request when the last is answered."""
    sent = _load(server.url, bodies, [("closed", clients // processes, seconds)] * processes)
    good = [each for each in sent if each["status"] == 200]
    return len(good) / max(each["at_s"] + each["ms"] / 1000 for each in sent)


def at_rate(
    server: Running, bodies: Path, rate: float, seconds: float, seed: int, processes: int = 1
) -> Measured:
    before = server.cpu_s, _busy_s(), _children_s(), time.monotonic()
    # Poisson arrivals of several senders together are Poisson arrivals.
    kinds = [("open", rate / processes, seconds, processes * seed + number) for number in range(processes)]
    sent = _load(server.url, bodies, kinds)
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


def _load(url: str, bodies: Path, kinds: Sequence[tuple[object, ...]]) -> list[dict[str, float]]:
    """What processes sent, one for each of `kinds`, all at once."""
    command = [sys.executable, "-m", "benchmarks.servers.load", url, str(bodies)]
    senders = [
        subprocess.Popen([*command, *map(str, kind)], cwd=ROOT, stdout=subprocess.PIPE) for kind in kinds
    ]
    found: list[dict[str, float]] = []
    for sender in senders:
        printed, _ = sender.communicate()
        assert sender.returncode == 0, f"{sender.args!r} ended with {sender.returncode}"
        found += json.loads(printed)
    return found
