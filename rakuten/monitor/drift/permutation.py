"""p-values that hold at any sample size: random relabellings, as few as tell."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FIRST_DRAWS: Final = 64
_SAME: Final = 1e-9  # relative: statistics that differ by rounding alone are equal


def p_value(
    observed: float, draw: Callable[[int], Floats], *, max_draws: int, exceedances: int, chunk: int = 8192
) -> float:
    """The chance of a statistic as large as `observed` when window and reference are of one kind.

    Draws until `exceedances` relabellings reached `observed`, at the l-th: exceedances / l; after `max_draws` with g of
    them: (g + 1) / (max_draws + 1). Either way P(p <= a) <= a for every a, at any sample size, whatever the statistic:
    Besag & Clifford, "Sequential Monte Carlo p-values", Biometrika 1991. A column without drift costs a few hundred draws.

    Args:
        draw: a number -> that many statistics, each of an independent uniform relabelling.
        chunk: most draws at once.
    """
    bound = observed - _SAME * max(1.0, abs(observed))
    drawn = reached = 0
    size = FIRST_DRAWS
    while drawn < max_draws:
        size = min(size, chunk, max_draws - drawn)
        beyond = np.flatnonzero(draw(size) >= bound)
        if reached + len(beyond) >= exceedances:
            return float(exceedances / (drawn + beyond[exceedances - reached - 1] + 1))
        drawn, reached = drawn + size, reached + len(beyond)
        size *= 2
    return (reached + 1) / (max_draws + 1)


def holm(p_values: Floats, weights: Floats, total_weight: float) -> Floats:
    """(T,) adjusted p-values: those <= alpha may be called drift with a chance <= alpha of any false one, however the
    tests depend on one another (Holm, 1979, with weights: a test of twice the weight needs half the evidence).

    Args:
        weights: (T,) of the tests that ran.
        total_weight: of all tests, those that had too little data to run included.
    """
    order = np.argsort(p_values / weights, kind="stable")
    remaining = total_weight - np.cumsum(weights[order]) + weights[order]
    adjusted: Floats = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p_values[order] / weights[order] * remaining))
    return adjusted


def relabellings(num: int, size: int, total: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(num, total) masks of 0 and 1, each a uniform choice of `size` of `total` rows."""
    chosen = np.argpartition(rng.random((num, total), dtype=np.float32), size - 1, axis=1)[:, :size]
    masks: NDArray[Any] = np.zeros((num, total), dtype=np.float32)
    np.put_along_axis(masks, chosen, 1, axis=1)
    return masks
