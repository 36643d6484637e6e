"""Scores of a set of predictions, how far chance could move them, and whether two models truly differ.

Legend: N rows, C classes, R resamples.

Every score is a function of a few sums over rows, so one pair of functions (`_sums`, `_scores_of`) gives the
point estimates and, with each row counted as often as it was drawn, all resamples of the bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rakuten.errors import DataError, RakutenError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Interval = tuple[float, float]

METRICS = ("weighted_f1", "macro_f1", "accuracy", "top3", "log_loss", "ece")
NUM_BINS = 15  # of Guo et al. 2017
LEVEL = 0.95
# Smallest probability in the log-loss: 36 nats for a row held impossible. scikit-learn clips float64 there too.
MIN_PROB = float(np.finfo(np.float64).eps)
SUM_TOLERANCE = 0.02  # bf16 keeps 8 bits: a softmax over 27 classes misses 1 by up to 0.01


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said about rows whose class is known.

    labels: (N,) true class indices. probs: (N, C) rows summing to one. rows: (N,) the rows' index as strings.

    Raises:
        ValueError: shapes disagree, a label lies outside 0..C-1, or probs are not probabilities.
        RakutenError: probs hold NaN or infinity, as a diverged model's do.
    """

    labels: Ints
    probs: Floats
    rows: NDArray[np.str_]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64))
        object.__setattr__(self, "probs", np.asarray(self.probs, dtype=np.float64))
        object.__setattr__(self, "rows", np.asarray(self.rows, dtype=np.str_))
        num_rows = len(self.labels)
        if self.labels.shape != (num_rows,) or self.rows.shape != (num_rows,) or self.probs.ndim != 2:
            raise ValueError("labels and rows must be (N,), probs (N, C)")
        if self.probs.shape[0] != num_rows or self.probs.shape[1] < 2:
            raise ValueError(f"probs must be (N, C >= 2) with N = {num_rows}, not {self.probs.shape}")
        if num_rows:
            self._check_values()

    def _check_values(self) -> None:
        if not np.isfinite(self.probs).all():
            raise RakutenError(
                "the model's probabilities are not finite numbers",
                expected="numbers from 0 to 1",
                got=f"{int((~np.isfinite(self.probs)).any(axis=1).sum())} rows with NaN or infinity",
                fix="training has diverged: lower the learning rates, or set optim.grad_clip",
            )
        if self.labels.min() < 0 or self.labels.max() >= self.num_classes:
            raise ValueError(f"labels must lie in 0..{self.num_classes - 1}")
        if self.probs.min() < 0 or np.abs(self.probs.sum(axis=1) - 1).max() > SUM_TOLERANCE:
            raise ValueError("each row of probs must be non-negative and sum to 1")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return int(self.probs.shape[1])

    @cached_property
    def predicted(self) -> Ints:
        """(N,) most probable class, the first of equals."""
        return np.asarray(self.probs.argmax(axis=1), dtype=np.int64)

    @cached_property
    def confidence(self) -> Floats:
        """(N,) probability of the predicted class."""
        return np.asarray(np.minimum(self.probs.max(axis=1), 1), dtype=np.float64)


@dataclass(frozen=True)
class PairedDifference:
    """Score of a minus score of b on the same rows, its interval, and the p-value of "no difference"."""

    difference: float
    low: float
    high: float
    p_value: float


def score(predictions: Predictions) -> dict[str, float | None]:
    """The METRICS of N rows; every value is None where N is 0, since NaN is no JSON.

    F1 is 2 TP / (support + predicted). Macro F1 averages over the classes that occur among the labels or the
    predictions, as scikit-learn's `f1_score` does by default; weighted F1 weighs by support. top3 is the share
    of rows with fewer than three classes ahead of the true one (1 where C <= 3; of equals the first is ahead).
    ece is the expected calibration error of the predicted class over 15 bins of equal width (Guo et al. 2017,
    arXiv:1706.04599). It is biased upwards on few rows (Nixon et al. 2019, arXiv:1904.01685).
    """
    if not len(predictions):
        return dict.fromkeys(METRICS, None)
    sums = _sums(_Terms.of(predictions), np.ones(len(predictions)))
    return {name: float(value) for name, value in _scores_of(sums, len(predictions)).items()}


def bootstrap_intervals(
    predictions: Predictions, num_resamples: int, seed: int, level: float = LEVEL
) -> dict[str, Interval]:
    """Percentile bootstrap interval of each of METRICS (Efron & Tibshirani 1993, chapter 13).

    Resampled calibration errors are higher than the sample's own, which is itself too high: the former shift
    is subtracted for ece alone, so that its interval lies about its score. The latter stays: measured on 2,000
    rows, the interval of a perfectly calibrated model's ece does not reach down to 0; from a true 0.05 on it
    holds what it says.

    Returns:
        Empty where there are no rows or num_resamples is 0.
    """
    if not len(predictions) or num_resamples == 0:
        return {}
    (resampled,) = _resample([_Terms.of(predictions)], num_resamples, seed)
    ece = score(predictions)["ece"]
    resampled["ece"] = np.maximum(resampled["ece"] - (resampled["ece"].mean() - ece), 0)
    return {name: _percentiles(values, level) for name, values in resampled.items()}


def paired_bootstrap(
    a: Predictions,
    b: Predictions,
    metric: str = "weighted_f1",
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = LEVEL,
) -> PairedDifference:
    """How much a differs from b when both are scored on the same resamples (Koehn 2004, "Statistical
    significance tests for machine translation evaluation").

    The two-sided p-value is 2 (1 + k) / (1 + R) with k resamples on the rarer side of zero (Davison & Hinkley
    1997, section 4.2: never 0). For log_loss and ece a negative difference is the better one for a.

    Raises:
        DataError: the two are not about the same rows, in the same order, with the same labels; or no rows.
        ValueError: unknown metric, or num_resamples < 1.
    """
    if metric not in METRICS or num_resamples < 1:
        raise ValueError(f"metric must be one of {METRICS} and num_resamples >= 1")
    same_rows = np.array_equal(a.rows, b.rows) and np.array_equal(a.labels, b.labels)
    if not same_rows or a.num_classes != b.num_classes or not len(a):
        raise DataError(
            "two sets of predictions can be compared only over the same rows",
            expected="the same rows in the same order with the same labels, at least one",
            got=f"{len(a)} and {len(b)} rows, {len(np.intersect1d(a.rows, b.rows))} in common",
            fix="evaluate both models on the same split of the same data",
        )
    of_a, of_b = _resample([_Terms.of(a), _Terms.of(b)], num_resamples, seed)
    differences = of_a[metric] - of_b[metric]
    num_rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    low, high = _percentiles(differences, level)
    point = (score(a)[metric] or 0.0) - (score(b)[metric] or 0.0)
    return PairedDifference(point, low, high, min(1.0, 2 * (1 + num_rarer) / (1 + num_resamples)))


def bin_of(confidence: Floats) -> Ints:
    """Bin index of each confidence; a bin holds its upper edge, not its lower one, as in Guo et al. 2017."""
    return np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)


@dataclass(frozen=True, eq=False)
class _Terms:
    """What each row adds to the sums; (N,) each."""

    num_classes: int
    labels: Ints
    predicted: Ints
    correct: Floats
    in_top3: Floats
    loss: Floats
    bins: Ints
    gap: Floats  # right or wrong (1, 0) minus confidence

    @classmethod
    def of(cls, predictions: Predictions) -> "_Terms":
        labels, probs = predictions.labels, predictions.probs
        true_prob = probs[np.arange(len(labels)), labels]
        classes = np.arange(predictions.num_classes)
        ahead = (probs > true_prob[:, None]) | ((probs == true_prob[:, None]) & (classes < labels[:, None]))
        correct = (predictions.predicted == labels).astype(np.float64)
        return cls(
            num_classes=predictions.num_classes,
            labels=labels,
            predicted=predictions.predicted,
            correct=correct,
            in_top3=(ahead.sum(axis=1) < 3).astype(np.float64),
            loss=-np.log(np.clip(true_prob, MIN_PROB, 1)),
            bins=bin_of(predictions.confidence),
            gap=correct - predictions.confidence,
        )


def _sums(terms: _Terms, weights: Floats) -> Floats:
    """(3 C + 2 + NUM_BINS,) sums over rows, each counted `weights` (N,) times."""
    num_classes = terms.num_classes
    support = np.bincount(terms.labels, weights, num_classes)
    predicted = np.bincount(terms.predicted, weights, num_classes)
    hits = np.bincount(terms.labels, weights * terms.correct, num_classes)
    gaps = np.bincount(terms.bins, weights * terms.gap, NUM_BINS)
    means = [weights @ terms.in_top3, weights @ terms.loss]
    return np.concatenate([support, predicted, hits, means, gaps])


def _scores_of(sums: Floats, num_rows: int) -> dict[str, Floats]:
    """Each of METRICS, shaped as the leading axes of `sums` (..., 3 C + 2 + NUM_BINS)."""
    num_classes = (sums.shape[-1] - NUM_BINS - 2) // 3
    support, predicted, hits, rest = np.split(sums, [num_classes * i for i in (1, 2, 3)], axis=-1)
    occurs = support + predicted > 0
    f1 = 2 * hits / np.where(occurs, support + predicted, 1)
    return {
        "weighted_f1": (f1 * support).sum(axis=-1) / num_rows,
        "macro_f1": f1.sum(axis=-1) / occurs.sum(axis=-1),
        "accuracy": hits.sum(axis=-1) / num_rows,
        "top3": rest[..., 0] / num_rows,
        "log_loss": rest[..., 1] / num_rows,
        "ece": np.abs(rest[..., 2:]).sum(axis=-1) / num_rows,
    }


def _resample(models: Sequence[_Terms], num_resamples: int, seed: int) -> list[dict[str, Floats]]:
    """(R,) values of each metric for each model, all models scored on the same draws."""
    rng = np.random.default_rng(seed)
    num_rows = len(models[0].labels)
    sums = [np.empty((num_resamples, 3 * terms.num_classes + 2 + NUM_BINS)) for terms in models]
    for r in range(num_resamples):
        draws = np.bincount(rng.integers(num_rows, size=num_rows), minlength=num_rows)
        for terms, out in zip(models, sums, strict=True):
            out[r] = _sums(terms, draws.astype(np.float64))
    return [_scores_of(of_model, num_rows) for of_model in sums]


def _percentiles(values: Floats, level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
