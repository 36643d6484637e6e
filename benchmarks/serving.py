"""What batches across requests by length bring: rates at equal p99, against a service per request and batches by count.

    python benchmarks/serving.py [--short] [--catalogue PATH] [--only TEXT]

Two cores for a server and for the process that asks it, all together: the load costs each server alike.
"""

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # however it was started

from benchmarks.servers.alone import Alone, alone
from benchmarks.servers.named_bundle import NAME, build
from benchmarks.servers.processes import Server, by_count, ours, per_request, running
from benchmarks.servers.products import Request, made_up, of_catalogue, requests_for
from benchmarks.servers.rates import Load, Measured, curve
from rakuten.model.bundle import Predictor

CORES = 2
BOUNDS_MS = (250, 500, 1000)
COLUMNS = (
    "server",
    "answers/s at the most",
    *(f"requests/s at p99 <= {bound} ms" for bound in BOUNDS_MS),
    "CPU, ms an answer",
    "other programs, cores",
)
FULL = Load(shares=(0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1), seconds=10)
SHORT = Load(shares=(0.3, 0.6, 0.9), seconds=5)


@dataclass(frozen=True)
class Row:
    """What was seen of one server."""

    server: Server
    runs: list[Measured]
    most: float

    def rate(self, bound_ms: float) -> float:
        """The rate at which the 99th percentile passes the bound, log-linear between two runs; 0 if the first is above it."""
        within = list(takewhile(lambda run: run.p99_ms <= bound_ms, self.runs))
        if not within:
            return 0.0
        ends = self.runs[len(within) - 1 : len(within) + 1]
        return float(
            np.interp(np.log(bound_ms), np.log([run.p99_ms for run in ends]), [run.rate for run in ends])
        )


def candidates(bundle: Path, *, short: bool) -> list[Server]:
    """Ours, and each alternative in the settings among which its best is taken.

    FastAPI as most write it (`def`, torch's own number of threads) and tuned by hand (a thread a worker, no thread pool).
    """
    target = {"latency_target_ms": 900, "threads": CORES}
    if short:
        return [
            ours("onnx-int8", bundle, **target),
            per_request("torch", bundle, 1, 2),
            per_request("torch", bundle, 2, 1, in_loop=True),
            *(by_count("onnx-int8", bundle, size, 500, CORES) for size in (2, 8)),
        ]
    return [
        *(ours(runtime, bundle, **target) for runtime in ("onnx-int8", "onnx", "torch")),
        ours("onnx-int8", bundle, **(target | {"threads": 1})),
        ours("onnx-int8", bundle, **(target | {"threads": 1, "runners": 1, "workers": 2})),
        *(per_request("torch", bundle, workers, CORES) for workers in (1, 2)),
        *(per_request(runtime, bundle, 2, 1, in_loop=True) for runtime in ("torch", "onnx-int8")),
        *(by_count("onnx-int8", bundle, size, 500, CORES) for size in (2, 4, 8, 16)),
        *(by_count("torch", bundle, size, 500, CORES) for size in (2, 8)),
    ]


def measure(servers: list[Server], folder: Path, load: Load) -> list[Row]:
    rows = []
    for server in servers:
        with running(server, folder) as started:
            bodies = folder / ("lists" if server.batched else "single")
            runs, most = curve(started, bodies, load, max(BOUNDS_MS))
        rows.append(Row(server, runs, most))
        print(line(rows[-1]), flush=True)
    return rows


def line(row: Row) -> str:
    cells = [row.server.name, f"{row.most:.1f}", *(f"{row.rate(bound):.1f}" for bound in BOUNDS_MS)]
    cells += [
        f"{min(run.cpu_ms for run in row.runs):.0f}",
        f"{max(run.others_cores for run in row.runs):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def best_of(rows: list[Row], family: str, bound_ms: float, runtime: str | None = None) -> Row | None:
    found = [row for row in rows if row.server.family == family and runtime in (None, row.server.runtime)]
    return max(found, key=lambda row: row.rate(bound_ms), default=None)


def ratios(rows: list[Row]) -> list[str]:
    wanted = [
        ("per request", None, "torch", 4.0),
        ("per request, tuned", None, "torch", None),
        ("per request", "torch", "torch", None),
        ("per request, tuned", "torch", "torch", None),
        ("per request, tuned", "onnx-int8", "onnx-int8", None),
        ("by count", "onnx-int8", "onnx-int8", 2.0),
        ("by count", "torch", "torch", None),
    ]
    found = []
    for family, runtime, theirs, asked in wanted:
        cells = []
        for bound in BOUNDS_MS:
            mine, other = best_of(rows, "ours", bound, runtime), best_of(rows, family, bound, theirs)
            if mine is None or other is None:
                break
            ratio = mine.rate(bound) / other.rate(bound) if other.rate(bound) else float("inf")
            cells.append(f"{ratio:.2f}")
        if len(cells) == len(BOUNDS_MS):
            name = f"ours, {runtime or 'the best'} / {family}, {theirs}"
            found.append(f"| {name} | {' | '.join(cells)} | {asked or ''} |")
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--short", action="store_true", help="fewer servers, shorter runs")
    arguments.add_argument("--catalogue", type=Path, default=os.environ.get("CATALOGUE"))
    arguments.add_argument("--only", default="", help="servers whose name holds this")
    arguments.add_argument("--bundles", type=Path, default=Path(tempfile.gettempdir()) / "rakuten-benchmark")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end with it
    load = SHORT if given.short else FULL
    bundle = build(given.bundles, [])
    products = made_up(600) if given.catalogue is None else of_catalogue(Path(given.catalogue), 600)
    requests = requests_for(products)
    print(heading(bundle, requests, load))
    servers = [each for each in candidates(bundle, short=given.short) if given.only in each.name]
    with tempfile.TemporaryDirectory(prefix="serving-") as scratch:
        folder = Path(scratch)
        (folder / "single").write_bytes(b"\n".join(request.body for request in requests))
        (folder / "lists").write_bytes(b"\n".join(b'{"items": [%s]}' % request.body for request in requests))
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        rows = measure(servers, folder, load)
        bounds = " | ".join(f"p99 <= {bound} ms" for bound in BOUNDS_MS)
        print(f"\n| ratio of rates | {bounds} | asked |\n|{'---|' * (len(BOUNDS_MS) + 2)}")
        print("\n".join(ratios(rows)))
        for row in rows:
            # With as many threads as the bare model that it is held against.
            if row.server.environment.get("RAKUTEN_SERVE_THREADS") == str(CORES):
                print_alone(row.server, bundle, requests, folder)


def heading(bundle: Path, requests: list[Request], load: Load) -> str:
    products = [request.product for request in requests]
    tokens = Predictor.load(bundle).preprocessor.tokens(
        [product.designation or "" for product in products],
        [product.description or "" for product in products],
    )
    lengths = [0 if each is None else len(each) for each in tokens]
    photos = np.mean([product.image is not None for product in products])
    middle, high = np.percentile(lengths, [50, 95])
    return (
        f"{NAME} with random weights; {len(requests)} products: median {middle:.0f} tokens, mean {np.mean(lengths):.0f},"
        f" p95 {high:.0f}; {photos:.0%} with a photo. {CORES} cores, shared with the load. Open loop, Poisson, cache off,"
        f" runs of {load.seconds:g} s; what is refused counts as late.\n"
    )


def print_alone(server: Server, bundle: Path, requests: list[Request], folder: Path) -> None:
    parts = {
        "text": [each for each in requests if each.product.image is None][:120],
        "text and photo": [each for each in requests if each.product.image is not None][:120],
    }
    with running(server, folder) as started:
        for name, part in parts.items():
            found: Alone = alone(started.url, bundle, server.runtime, part, CORES)
            print(
                f"\n{server.name}, {name}, one request alone: {found.http:.1f} ms; in process {found.prepared:.1f} ms"
                f" (model {found.model:.1f} ms). Overhead {found.overhead:+.1f} ms, at most 3 asked; preparation"
                f" counted as overhead too: {found.overhead_with_preparation:+.1f} ms."
            )


if __name__ == "__main__":
    main()
