"""How near a runtime's answers are to torch's, and how fast they come, on the same products."""

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rakuten.data.batching import Batch
from rakuten.data.preprocess import Example
from rakuten.model.bundle import Predictor
from rakuten.model.onnx_files import TORCH, Latency, Measured, Parity
from rakuten.model.runtime import Runtime, embed

BATCH_SIZES: Final = (1, 16)
BUDGET_S: Final = 6.0  # for the timing of one batch size
LEAST_ROUNDS, MOST_ROUNDS = 8, 200
_HIDDEN: Final[tuple[dict[str, bool], ...]] = ({}, {"text": True}, {"image": True})


class Comparison:
    """N products in batches of like length, as the service forms them, and their (N,) class indices where known."""

    def __init__(self, predictor: Predictor, examples: Sequence[Example], labels: NDArray[np.int64] | None):
        assert len(examples) > 0
        lengths = [0 if each.tokens is None else len(each.tokens) for each in examples]
        order = np.argsort(lengths, kind="stable")
        self._predictor, self._examples = predictor, [examples[index] for index in order]
        self._labels = None if labels is None else np.asarray(labels)[order]

    def measure(self, runtimes: dict[str, Runtime]) -> dict[str, Measured]:
        """Each runtime beside torch in float32, which must be among them."""
        probs = {name: self._probabilities(runtime) for name, runtime in runtimes.items()}
        latency = self._latencies(runtimes)
        return {
            name: Measured(
                self._parity(probs[name], probs[TORCH]), latency[name], runtime.tolerance, refused=None
            )
            for name, runtime in runtimes.items()
        }

    def _batches(self, size: int) -> list[Batch]:
        starts = range(0, len(self._examples), size)
        return [self._predictor.batch(self._examples[start : start + size]) for start in starts]

    def _probabilities(self, runtime: Runtime) -> NDArray[np.float64]:
        """(3, N, C): as they are, without text, without photo."""
        embeddings = [embed(runtime, batch) for batch in self._batches(max(BATCH_SIZES))]
        return np.stack(
            [
                np.concatenate(
                    [self._predictor.probabilities_of(runtime, e.without(**hidden)) for e in embeddings]
                )
                for hidden in _HIDDEN
            ]
        )

    def _parity(self, probs: NDArray[np.float64], torchs: NDArray[np.float64]) -> Parity:
        codes, expected = probs[0].argmax(axis=1), torchs[0].argmax(axis=1)
        drop = None
        if self._labels is not None:
            drop = weighted_f1(expected, self._labels) - weighted_f1(codes, self._labels)
        difference = np.abs(probs - torchs).max()
        return Parity(len(codes), float(difference), float(np.mean(codes == expected)), drop)

    def _latencies(self, runtimes: dict[str, Runtime]) -> dict[str, tuple[Latency, ...]]:
        found: dict[str, list[Latency]] = {name: [] for name in runtimes}
        for size in BATCH_SIZES:
            for name, times_s in self._times(runtimes, self._batches(size)).items():
                per_product_ms = 1000 * np.array(times_s)
                median, p99 = np.percentile(per_product_ms, [50, 99])
                found[name].append(Latency(size, round(float(median), 4), round(float(p99), 4)))
        return {name: tuple(each) for name, each in found.items()}

    def _times(self, runtimes: dict[str, Runtime], batches: list[Batch]) -> dict[str, list[float]]:
        """Seconds a product; runtimes take turns batch by batch, so that a busy machine slows all of them alike."""
        times_s: dict[str, list[float]] = {name: [] for name in runtimes}
        rng = np.random.default_rng(0)
        end = time.perf_counter() + BUDGET_S
        for round_ in range(MOST_ROUNDS):
            if round_ >= LEAST_ROUNDS and time.perf_counter() > end:
                break
            batch = batches[int(rng.integers(len(batches)))]
            for name, runtime in runtimes.items():
                started = time.perf_counter()
                self._predictor.probabilities_of(runtime, embed(runtime, batch))
                times_s[name].append((time.perf_counter() - started) / len(batch))
        return times_s


def weighted_f1(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """F1 of each class weighted by its products, as scikit-learn's f1_score(average="weighted")."""
    classes, counts = np.unique(labels, return_counts=True)
    hits = np.array([np.sum((answers == each) & (labels == each)) for each in classes])
    answered = np.array([np.sum(answers == each) for each in classes])
    return float(np.sum(counts * 2 * hits / (answered + counts)) / counts.sum())
