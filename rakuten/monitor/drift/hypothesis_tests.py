"""Two-sample tests of one column: categories, numbers, embeddings. Exact at any sample size, by permutation.

The reference is a finite sample like the window, so every test is of two samples: what is permuted is which product
belongs to which. A column of counts needs no products for that: the counts of a random relabelling are multivariate
hypergeometric, which costs the same for a window of 30 and of 5,000.

Shapes: n products of the window, m of the reference, K categories or bins, F features.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc, gammaln

from rakuten.config.monitoring import DriftConfig
from rakuten.monitor.drift.permutation import Floats, p_value, relabellings

Counts = NDArray[np.int64]
NUM_BINS: Final = 32
NUM_FEATURES: Final = 256
MASK_BYTES: Final = 16_000_000  # of one chunk of relabellings


@dataclass(frozen=True)
class Outcome:
    """`degenerate`: all products of both sides are alike, so that no relabelling could have shown a difference."""

    p_value: float
    effect: float
    degenerate: bool = False


def compare_categories(
    window: Counts, reference: Counts, config: DriftConfig, rng: np.random.Generator
) -> Outcome:
    """Monte-Carlo chi-square of two rows of counts (K,) each; the effect is Cohen's w, corrected for its bias.

    The statistic is the more surprising of two: the sum of squared residuals, which sees a change of many categories
    (of square roots, Anscombe 1948, so that a rare category does not decide alone), and the hypergeometric tail of the
    most unusual category, which sees that of one.
    """
    kept = window + reference > 0
    window, reference = window[kept], reference[kept]
    n, m, pooled = int(window.sum()), int(reference.sum()), window + reference
    num = len(pooled)
    if num < 2:
        return Outcome(1.0, 0.0, degenerate=True)
    small, size = (window, n) if n <= m else (reference, m)
    share = pooled / (n + m)
    root = np.sqrt(size * share + 3 / 8)
    tails, each = _tails(pooled, size), np.arange(num)

    def statistic(counts: Counts) -> Floats:
        residuals = 2 * (np.sqrt(counts + 3 / 8) - root) / np.sqrt(1 - size / (n + m))
        together = gammaincc((num - 1) / 2, (residuals**2).sum(axis=-1) / 2)
        largest = 2 * num * tails[each, counts].min(axis=-1)
        surprise: Floats = -np.log(np.maximum(np.minimum(together, largest), 1e-300))
        return surprise

    p = p_value(
        float(statistic(small)),
        lambda draws: statistic(rng.multivariate_hypergeometric(pooled, size, draws, method="marginals")),
        max_draws=config.max_draws,
        exceedances=config.exceedances,
    )
    w_squared = ((window / n - reference / m) ** 2 / share).sum() - (num - 1) * (1 / n + 1 / m)
    return Outcome(p, float(np.sqrt(max(0.0, w_squared))))


def _tails(pooled: Counts, size: int) -> Floats:
    """(K, most + 1) chance that a relabelling gives a category as few, or as many, whichever is rarer, as x of its products.

    Columns beyond a category's own products hold 1.
    """
    total, most = int(pooled.sum()), int(min(pooled.max(), size))
    x, count = np.arange(most + 1), pooled[:, None]
    possible = (x <= count) & (size - x <= total - count)
    with np.errstate(invalid="ignore"):
        log_chance = _log_choose(count, x) + _log_choose(total - count, size - x) - _log_choose(total, size)
    chance = np.where(possible, np.exp(np.where(possible, log_chance, 0)), 0)
    fewer, more = np.cumsum(chance, axis=1), np.cumsum(chance[:, ::-1], axis=1)[:, ::-1]
    rarer: Floats = np.where(possible, np.minimum(fewer, more), 1)
    return rarer


def _log_choose(total: NDArray[Any] | int, chosen: NDArray[Any] | int) -> Floats:
    ways: Floats = gammaln(total + 1.0) - gammaln(chosen + 1.0) - gammaln(total - chosen + 1.0)
    return ways


def compare_numbers(
    window: Floats, reference: Floats, config: DriftConfig, rng: np.random.Generator
) -> Outcome:
    """Two-sample Anderson-Darling of (n,) and (m,) numbers; the effect is the Kolmogorov-Smirnov distance.

    Numbers are put into at most 32 bins of about equal count, equal ones into the same. The bins follow from both
    samples together, so the permutation stays exact.
    """
    together = np.concatenate([window, reference])
    edges = np.unique(together)
    if len(edges) > NUM_BINS:
        edges = np.unique(np.quantile(together, np.arange(1, NUM_BINS + 1) / NUM_BINS, method="inverted_cdf"))
    if len(edges) < 2:
        return Outcome(1.0, 0.0, degenerate=True)
    of_window, of_reference = (
        np.bincount(np.searchsorted(edges, side), minlength=len(edges)) for side in (window, reference)
    )
    n, m, pooled = len(window), len(reference), of_window + of_reference
    small, size = (of_window, n) if n <= m else (of_reference, m)
    below = np.cumsum(pooled)[:-1] / (n + m)
    weight = pooled[:-1] / (n + m) / (below * (1 - below))

    def statistic(counts: Counts) -> Floats:
        distance = np.cumsum(counts[..., :-1], axis=-1) / size - below
        area: Floats = distance**2 @ weight
        return area

    p = p_value(
        float(statistic(small)),
        lambda num: statistic(rng.multivariate_hypergeometric(pooled, size, num, method="marginals")),
        max_draws=config.max_draws,
        exceedances=config.exceedances,
    )
    return Outcome(p, float(np.abs(np.cumsum(of_window) / n - np.cumsum(of_reference) / m).max()))


def compare_embeddings(
    window: NDArray[np.floating],
    reference: NDArray[np.floating],
    config: DriftConfig,
    rng: np.random.Generator,
) -> Outcome:
    """Maximum mean discrepancy (Gretton et al., 2012) of (n, D) and (m, D) embeddings, on at most
    `config.max_embeddings` of either side.

    The kernel is Gaussian, as wide as the median distance, by 256 random Fourier features (Rahimi & Recht, 2007) of
    the standardised dimensions. The effect is the distance of the two means in standard deviations, both in the kernel's
    space, corrected for its bias: Cohen's d of a kernel.
    """
    window, reference = (_some(side, config.max_embeddings, rng) for side in (window, reference))
    n, m = len(window), len(reference)
    features = _features(np.concatenate([window, reference]).astype(np.float32), rng)
    if features is None:
        return Outcome(1.0, 0.0, degenerate=True)
    size, sign = (n, slice(None, n)) if n <= m else (m, slice(n, None))
    p = p_value(
        _length(features[sign].sum(axis=0, keepdims=True)).item(),
        lambda num: _length(relabellings(num, size, n + m, rng) @ features),
        max_draws=config.max_draws,
        exceedances=config.exceedances,
        chunk=max(1, MASK_BYTES // (4 * (n + m))),
    )
    means = features[:n].mean(axis=0), features[n:].mean(axis=0)
    between = ((means[0] - means[1]) ** 2).sum()
    spread = (((features[:n] - means[0]) ** 2).sum() + ((features[n:] - means[1]) ** 2).sum()) / (n + m - 2)
    return Outcome(p, float(np.sqrt(max(0.0, between / spread - 1 / n - 1 / m))))


def _some(rows: NDArray[np.floating], most: int, rng: np.random.Generator) -> NDArray[np.floating]:
    return rows if len(rows) <= most else rows[rng.choice(len(rows), most, replace=False)]


def _features(rows: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32] | None:
    """(N, F) random Fourier features less their mean; None where all rows are equal."""
    spread = rows.std(axis=0)
    kept = spread > 1e-6 * max(1e-30, float(spread.max(initial=0)))
    if not kept.any() or spread.max() == 0:
        return None
    scaled = (rows[:, kept] - rows[:, kept].mean(axis=0)) / spread[kept]
    pairs = rng.integers(len(scaled), size=(2, 1000))
    width = float(np.median(np.linalg.norm(scaled[pairs[0]] - scaled[pairs[1]], axis=1)))
    width = width or float(np.linalg.norm(scaled, axis=1).max())
    directions = rng.standard_normal((scaled.shape[1], NUM_FEATURES // 2), dtype=np.float32) / np.float32(
        width
    )
    phases = scaled @ directions
    found = np.hstack([np.cos(phases), np.sin(phases)]) / np.float32(np.sqrt(NUM_FEATURES / 2))
    centred: NDArray[np.float32] = found - found.mean(axis=0)
    return centred


def _length(sums: NDArray[np.float32]) -> Floats:
    lengths: Floats = np.einsum("bf,bf->b", sums, sums).astype(np.float64)
    return lengths
