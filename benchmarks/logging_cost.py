"""What logging costs an answer: the same service without its log, as it comes, and with texts and photos kept as well.

    python benchmarks/logging_cost.py [--bundle PATH] [--rounds 30] [--rate 0.5]

All of them run at once and are asked in turn, so that a busy machine slows them alike. One request at a time first, then
an open loop at a share of what the service can do at the most.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # however it was started

from benchmarks.servers.named_bundle import SMALL, build
from benchmarks.servers.processes import Running, ours, running
from benchmarks.servers.products import made_up, requests_for
from benchmarks.servers.rates import at_rate, most_a_second

LOG = "sqlite:///outputs/inference.db"
WAYS: dict[str, dict[str, object]] = {
    "no log": {"log": ""},
    "log": {"log": LOG},
    "log with texts": {"log": LOG, "log_texts": True},
    "log with texts and photos": {"log": LOG, "log_texts": True, "log_images": True},
}
BLOCK = 40  # requests to one service before the next one's turn
RESAMPLES = 2_000


def alone(servers: Mapping[str, Running], bodies: list[bytes], rounds: int) -> dict[str, np.ndarray]:
    """(rounds, BLOCK) ms of each: the same requests to all, in an order that turns."""
    found: dict[str, list[list[float]]] = {name: [] for name in servers}
    names = list(servers)
    with httpx.Client(trust_env=False, timeout=30, headers={"Content-Type": "application/json"}) as client:
        for turn in range(-1, rounds):  # the first one warms all
            block = [bodies[(turn * BLOCK + number) % len(bodies)] for number in range(BLOCK)]
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                times = [_ask(client, servers[name].url, body) for body in block]
                if turn >= 0:
                    found[name].append(times)
    return {name: np.array(times) for name, times in found.items()}


def _ask(client: httpx.Client, url: str, body: bytes) -> float:
    started = time.perf_counter()
    client.post(url, content=body).raise_for_status()
    return 1000 * (time.perf_counter() - started)


def ratio(times: np.ndarray, without: np.ndarray) -> tuple[float, float, float]:
    """Of the medians, with its 95 % interval: rounds are drawn again, the same of both."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(times), size=len(times)) for _ in range(RESAMPLES)]
    ratios = [float(np.median(times[rows]) / np.median(without[rows])) for rows in draws]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(np.median(times) / np.median(without)), float(low), float(high)


def print_alone(times: Mapping[str, np.ndarray]) -> None:
    print("| one request at a time | p50, ms | of no log, 95 % interval |\n|---|---|---|")
    for name, found in times.items():
        value, low, high = ratio(found, times["no log"])
        print(f"| {name} | {np.median(found):.2f} | {value:.3f} ({low:.3f} to {high:.3f}) |")


def print_loaded(servers: Mapping[str, Running], bodies: Path, share: float, rounds: int) -> None:
    rate = share * most_a_second(servers["no log"], bodies, 8.0)
    p50s: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(rounds):
        for name, server in servers.items():
            p50s[name].append(at_rate(server, bodies, rate, 5.0, seed=turn).p50_ms)
    print(f"\n| {rate:.0f} requests a second | p50, ms, median of {rounds} runs | of no log |\n|---|---|---|")
    for name, found in p50s.items():
        ratios = np.array(found) / np.array(p50s["no log"])
        print(f"| {name} | {np.median(found):.2f} | {np.median(ratios):.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help=f"one of yours instead of {SMALL.name}")
    parser.add_argument("--runtime", default="auto", help="torch, onnx, onnx-int8")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rate", type=float, default=0.5, help="share of what it can do at the most")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end with it
    bundle = given.bundle or build(Path(tempfile.gettempdir()) / "rakuten-benchmark", [])
    requests = requests_for(made_up(600))
    with tempfile.TemporaryDirectory(prefix="logging-") as scratch, ExitStack() as stack:
        bodies = Path(scratch) / "single"
        bodies.write_bytes(b"\n".join(request.body for request in requests))
        servers = {}
        for name, settings in WAYS.items():
            folder = Path(scratch) / name.replace(" ", "-")
            folder.mkdir()
            server = ours(given.runtime, bundle.resolve(), **settings)
            servers[name] = stack.enter_context(running(server, folder))
        print_alone(alone(servers, [request.body for request in requests], given.rounds))
        print_loaded(servers, bodies, given.rate, max(3, given.rounds // 4))


if __name__ == "__main__":
    main()
