"""A GPU behind the service: requests/s and p99 of CamemBERT-base with ConvNeXt-base, and what the model alone would do.

    python benchmarks/serving_gpu.py [--catalogue PATH] [--servers-only] [--only TEXT] [--processes 4]

The processor's part of an answer (HTTP, the photo's decoding, tokens, the log) is many times the GPU's, so servers are
compared by their number of processes. The load comes from the same machine.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # however it was started

from benchmarks.servers.named_bundle import BASE, build
from benchmarks.servers.processes import Server, by_count, ours, per_request
from benchmarks.servers.products import Request, described, made_up, of_catalogue, requests_for, write_bodies
from benchmarks.servers.rates import Load, Row, measure
from rakuten.data.batching import TokenBudgetSampler
from rakuten.model.bundle import Predictor
from rakuten.model.runtime import TorchRuntime, embed, logits_of

BOUNDS_MS = (50, 100, 250)
TOKEN_BUDGET, BATCH_SIZE = 4096, 64  # of a batch, as the service has them
COMPARED = 64  # products whose logits are held against float32 on the processor


def servers(bundle: Path) -> list[Server]:
    return [
        *(
            ours("torch", bundle, workers=workers, latency_target_ms=200, compile=False)
            for workers in (1, 4, 8)
        ),
        *(per_request("torch", bundle, workers, 1) for workers in (1, 8)),
        by_count("torch", bundle, 32, 100, 1, workers=8),
    ]


def model_alone(bundle: Path, requests: Sequence[Request]) -> None:
    """Prints how many products a second the towers and the head answer without a service, and how exactly."""
    predictor = Predictor.load(bundle)
    examples = predictor.preprocessor([request.product for request in requests])
    reference = TorchRuntime(predictor.classifier)
    some = predictor.batch(examples[:COMPARED])
    expected = logits_of(reference, embed(reference, some))
    lengths = np.array([0 if each.tokens is None else len(each.tokens) for each in examples])
    rows_of_like_length = TokenBudgetSampler(
        lengths, batch_size=BATCH_SIZE, token_budget=TOKEN_BUDGET, seed=None
    )
    loads = [predictor.batch([examples[row] for row in rows]) for rows in rows_of_like_length]
    singles = [predictor.batch([example]) for example in examples[:100]]
    print(
        "| model alone | first calls, s | products/s | one product, ms | error of the logits |\n|---|---|---|---|---|"
    )
    for compiled in (False, True):
        runtime = TorchRuntime(predictor.classifier, "cuda", precision="bf16", compile=compiled)
        began = time.perf_counter()
        for batch in (singles[0], *loads):
            logits_of(runtime, embed(runtime, batch))
        for batch in singles:
            embed(runtime, batch)
        first_s = time.perf_counter() - began
        began = time.perf_counter()
        for batch in loads * 3:
            logits_of(runtime, embed(runtime, batch))
        rate = 3 * len(examples) / (time.perf_counter() - began)
        times = []
        for batch in singles:
            began = time.perf_counter()
            logits_of(runtime, embed(runtime, batch))
            times.append(1000 * (time.perf_counter() - began))
        error = np.linalg.norm(logits_of(runtime, embed(runtime, some)) - expected) / np.linalg.norm(expected)
        name = f"{runtime.name}{', compiled' if compiled else ''}"
        print(f"| {name} | {first_s:.0f} | {rate:,.0f} | {np.median(times):.1f} | {error:.4f} |", flush=True)


def print_runs(rows: Sequence[Row]) -> None:
    for row in rows:
        runs = ", ".join(f"{run.rate:.0f}/s {run.p50_ms:.0f}/{run.p99_ms:.0f} ms" for run in row.runs)
        print(f"\n{row.server.name}: ready in {row.start_s:.0f} s; p50/p99 at rising rates: {runs}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--catalogue", type=Path, default=os.environ.get("CATALOGUE"))
    arguments.add_argument("--only", default="", help="servers whose name holds this")
    arguments.add_argument("--servers-only", action="store_true", help="not the model alone")
    arguments.add_argument("--processes", type=int, default=4, help="that send requests")
    arguments.add_argument("--seconds", type=float, default=5, help="of one run at one rate")
    arguments.add_argument("--bundles", type=Path, default=Path(tempfile.gettempdir()) / "rakuten-benchmark")
    given = arguments.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch sees no GPU; without one: python benchmarks/serving.py")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end with it
    load = Load((0.4, 0.6, 0.75, 0.9, 1.0), given.seconds, requests=0, clients=128, processes=given.processes)
    bundle = build(given.bundles, [], BASE, graphs=False)
    products = made_up(600) if given.catalogue is None else of_catalogue(Path(given.catalogue), 600)
    requests = requests_for(products)
    print(
        f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, torch {torch.__version__}. {BASE.name} with random"
        f" weights; {described(requests, bundle)}. Open loop, Poisson, cache off, runs of {load.seconds:g} s; what is"
        " refused counts as late.\n"
    )
    if not given.servers_only:
        model_alone(bundle, requests)
    with tempfile.TemporaryDirectory(prefix="serving-") as scratch:
        write_bodies(Path(scratch), requests)
        print()
        chosen = [each for each in servers(bundle) if given.only in each.name]
        print_runs(measure(chosen, Path(scratch), load, BOUNDS_MS))


if __name__ == "__main__":
    main()
