"""One request alone: what the service adds to the model's own time."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.servers.products import Request
from rakuten.model.bundle import Predictor
from rakuten.model.onnx_files import graphs_of
from rakuten.model.onnx_runtime import load_runtime
from rakuten.model.runtime import embed


@dataclass(frozen=True)
class Alone:
    """Medians, ms. `overhead` is the median of the differences: request by request, one beside the other."""

    http: float
    prepared: float  # the same product in this process: clean, tokenize, decode, model, calibrate
    model: float  # of it the model alone: towers and head
    overhead: float  # http less prepared
    overhead_with_preparation: float  # http less model


def alone(url: str, bundle: Path, runtime_name: str, requests: Sequence[Request], threads: int = 0) -> Alone:
    """The same requests over HTTP and in this process, by turns."""
    predictor = Predictor.load(bundle)
    runtime = load_runtime(predictor, graphs_of(bundle), runtime_name, device="cpu", threads=threads)  # type: ignore[arg-type]
    rows: list[tuple[float, float, float]] = []
    with httpx.Client(trust_env=False, timeout=30, headers={"Content-Type": "application/json"}) as client:
        for number, request in enumerate(requests):
            started = time.perf_counter()
            answer = client.post(url, content=request.body)
            over_http = time.perf_counter() - started
            answer.raise_for_status()
            started = time.perf_counter()
            batch = predictor.batch(predictor.preprocessor([request.product]))
            prepared = time.perf_counter()
            predictor.probabilities_of(runtime, embed(runtime, batch))
            ended = time.perf_counter()
            if number >= len(requests) // 10:  # the first ones warm both
                rows.append((over_http, ended - started, ended - prepared))
    columns = list(zip(*rows, strict=True))
    http, whole, model = (1000 * statistics.median(column) for column in columns)
    return Alone(
        http,
        whole,
        model,
        1000 * statistics.median(a - b for a, b, _ in rows),
        1000 * statistics.median(a - c for a, _, c in rows),
    )
