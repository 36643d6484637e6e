"""What batches across requests by length bring: rates at equal p99, against a service per request and batches by count.

    python benchmarks/serving.py [--model camembert-base-mobilenetv4] [--short] [--catalogue PATH] [--only TEXT ...]

Two cores for a server and for the process that asks it, all together: the load costs each server alike.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # however it was started
# Read when torch is loaded. After each bare call of the model its threads would spin here, on the server's cores.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

from benchmarks.servers.alone import Alone, alone
from benchmarks.servers.named_bundle import CAMEMBERT, SMALL, build
from benchmarks.servers.processes import Server, by_count, ours, per_request, running
from benchmarks.servers.products import Request, described, made_up, of_catalogue, requests_for, write_bodies
from benchmarks.servers.rates import Load, Row, measure

CORES = 2
FULL = Load(shares=(0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1), seconds=10)
SHORT = Load(shares=(0.3, 0.6, 0.9), seconds=5, requests=0)
# The 99th percentiles at which rates are compared, by model.
BOUNDS_MS = {SMALL: (250, 500, 1000), CAMEMBERT: (500, 1000, 2000)}


def candidates(bundle: Path, worst_ms: float, *, short: bool) -> list[Server]:
    """Ours, and each alternative in the settings among which its best is taken.

    FastAPI as most write it (`def`, torch's own number of threads) and tuned by hand (a thread a worker, no thread pool).
    """
    target = {"latency_target_ms": round(0.9 * worst_ms), "threads": CORES}
    waits_ms = round(worst_ms / 2)
    if short:
        return [
            ours("onnx-int8", bundle, **target),
            per_request("torch", bundle, 1, 2),
            per_request("torch", bundle, 2, 1, in_loop=True),
            *(by_count("onnx-int8", bundle, size, waits_ms, CORES) for size in (2, 8)),
        ]
    return [
        *(ours(runtime, bundle, **target) for runtime in ("onnx-int8", "onnx", "torch")),
        ours("onnx-int8", bundle, **(target | {"threads": 1})),
        ours("onnx-int8", bundle, **(target | {"threads": 1, "runners": 1, "workers": 2})),
        *(per_request("torch", bundle, workers, CORES) for workers in (1, 2)),
        *(per_request(runtime, bundle, 2, 1, in_loop=True) for runtime in ("torch", "onnx-int8")),
        *(by_count("onnx-int8", bundle, size, waits_ms, CORES) for size in (2, 4, 8, 16)),
        *(by_count("torch", bundle, size, waits_ms, CORES) for size in (2, 8)),
    ]


def best_of(rows: list[Row], family: str, bound_ms: float, runtime: str | None = None) -> Row | None:
    found = [row for row in rows if row.server.family == family and runtime in (None, row.server.runtime)]
    return max(found, key=lambda row: row.rate(bound_ms), default=None)


def ratios(rows: list[Row], bounds_ms: Sequence[float]) -> list[str]:
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
        for bound in bounds_ms:
            mine, other = best_of(rows, "ours", bound, runtime), best_of(rows, family, bound, theirs)
            if mine is None or other is None:
                break
            ratio = mine.rate(bound) / other.rate(bound) if other.rate(bound) else float("inf")
            cells.append(f"{ratio:.2f}")
        if len(cells) == len(bounds_ms):
            name = f"ours, {runtime or 'the best'} / {family}, {theirs}"
            found.append(f"| {name} | {' | '.join(cells)} | {asked or ''} |")
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    named = {model.name: model for model in BOUNDS_MS}
    arguments.add_argument("--model", choices=named, default=SMALL.name)
    arguments.add_argument("--short", action="store_true", help="fewer servers, shorter runs")
    arguments.add_argument("--catalogue", type=Path, default=os.environ.get("CATALOGUE"))
    arguments.add_argument("--only", nargs="+", default=[""], help="servers whose name holds one of these")
    arguments.add_argument("--bundles", type=Path, default=Path(tempfile.gettempdir()) / "rakuten-benchmark")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end with it
    model = named[given.model]
    bounds_ms = BOUNDS_MS[model]
    load = SHORT if given.short else FULL
    bundle = build(given.bundles, [], model)
    products = made_up(600) if given.catalogue is None else of_catalogue(Path(given.catalogue), 600)
    requests = requests_for(products)
    print(
        f"{model.name} with random weights; {described(requests, bundle)}. {CORES} cores, shared with the load. Open loop,"
        f" Poisson, cache off, runs of {load.seconds:g} s and {load.requests} requests at least; what is refused counts as late.\n"
    )
    all_servers = candidates(bundle, max(bounds_ms), short=given.short)
    servers = [each for each in all_servers if any(text in each.name for text in given.only)]
    with tempfile.TemporaryDirectory(prefix="serving-") as scratch:
        folder = Path(scratch)
        write_bodies(folder, requests)
        rows = measure(servers, folder, load, bounds_ms)
        bounds = " | ".join(f"p99 <= {bound} ms" for bound in bounds_ms)
        print(f"\n| ratio of rates | {bounds} | asked |\n|{'---|' * (len(bounds_ms) + 2)}")
        print("\n".join(ratios(rows, bounds_ms)))
        for row in rows:
            # With as many threads as the bare model that it is held against.
            if row.server.environment.get("RAKUTEN_SERVE_THREADS") == str(CORES):
                print_alone(row.server, bundle, requests, folder)


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
