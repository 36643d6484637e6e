"""Every column of a window against the same column of the reference, corrected for their number."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from rakuten.config.monitoring import DriftConfig
from rakuten.model.reference import ABSENT, Observations
from rakuten.monitor.drift.hypothesis_tests import (
    Outcome,
    compare_categories,
    compare_embeddings,
    compare_numbers,
)
from rakuten.monitor.drift.permutation import holm

Kind = Literal["categories", "numbers", "embeddings"]
Side = NDArray[Any]
EFFECT_NAMES: Final[dict[Kind, str]] = {
    "categories": "Cohen's w",
    "numbers": "Kolmogorov-Smirnov distance",
    "embeddings": "kernel distance",
}


@dataclass(frozen=True)
class Column:
    """One thing that is compared: the products of either side that have it. `rows` are their numbers in the window."""

    name: str
    kind: Kind
    window: Side
    reference: Side
    rows: NDArray[np.intp]

    def enough(self, config: DriftConfig) -> bool:
        return min(len(self.window), len(self.reference)) >= config.min_products


@dataclass(frozen=True)
class Check:
    """A column with what its test found: no outcome where there was not enough data."""

    column: Column
    outcome: Outcome | None
    p_adjusted: float | None  # Holm; drift where <= alpha, of all checks together

    def significant(self, alpha: float) -> bool:
        return self.p_adjusted is not None and self.p_adjusted <= alpha

    def matters(self, config: DriftConfig) -> bool:
        """The effect is as large as what `config` calls the least that matters."""
        return self.outcome is not None and self.outcome.effect >= least_effect(self.column.kind, config)


def least_effect(kind: Kind, config: DriftConfig) -> float:
    effects = config.effects
    return {
        "categories": effects.cohens_w,
        "numbers": effects.ks_distance,
        "embeddings": effects.kernel_distance,
    }[kind]


def check(reference: Observations, window: Observations, config: DriftConfig) -> list[Check]:
    """A check for each column that the reference has.

    Holm counts a test that had too little data, since how much there was depends on the window; not one whose column is
    constant over both sides, since no relabelling changes that.
    """
    columns = list(columns_of(reference, window))
    content = zlib.crc32(np.ascontiguousarray(window.ids).tobytes())
    outcomes = [outcome_of(column, config, content) if column.enough(config) else None for column in columns]
    weights = np.array([config.weights.get(column.name, 1.0) for column in columns])
    ran = [i for i, outcome in enumerate(outcomes) if outcome is not None and not outcome.degenerate]
    idle = [i for i, outcome in enumerate(outcomes) if outcome is not None and outcome.degenerate]
    p_values = np.array([outcomes[i].p_value for i in ran])  # type: ignore[union-attr]
    corrected = holm(p_values, weights[ran], float(weights.sum() - weights[idle].sum()))
    adjusted = dict(zip(ran, corrected.tolist(), strict=True))
    return [
        Check(column, outcome, None if outcome is None else adjusted.get(i, 1.0))
        for i, (column, outcome) in enumerate(zip(columns, outcomes, strict=True))
    ]


def columns_of(reference: Observations, window: Observations) -> Iterator[Column]:
    """What the model said, then what it saw, then what its towers made of it."""
    everything = np.arange(len(window))
    yield Column("classes", "categories", window.predicted, reference.predicted, everything)
    yield Column("confidence", "numbers", window.confidence, reference.confidence, everything)
    for name in reference.flags:
        yield Column(name, "categories", window.flags[name], reference.flags[name], everything)
    for name in reference.categories:
        yield _present(name, "categories", window.categories[name], reference.categories[name], _named)
    for name in reference.numbers:
        yield _present(name, "numbers", window.numbers[name], reference.numbers[name], np.isfinite)
    for name in reference.embeddings:
        sides = window.embeddings[name], reference.embeddings[name]
        yield _present(f"{name}_embedding", "embeddings", *sides, _finite_rows)


def _present(
    name: str, kind: Kind, window: Side, reference: Side, has: Callable[[Side], NDArray[np.bool_]]
) -> Column:
    rows = np.flatnonzero(has(window))
    return Column(name, kind, window[rows], reference[has(reference)], rows)


def _named(values: Side) -> NDArray[np.bool_]:
    named: NDArray[np.bool_] = values != ABSENT
    return named


def _finite_rows(values: Side) -> NDArray[np.bool_]:
    finite: NDArray[np.bool_] = np.isfinite(values[:, 0])
    return finite


def outcome_of(column: Column, config: DriftConfig, content: int) -> Outcome:
    """The test of a column that has enough data; `content` stands for the window's products."""
    # The same window gives the same draws, another one others, whichever columns there are beside this one.
    rng = np.random.default_rng([config.seed, content, zlib.crc32(column.name.encode())])
    if column.kind == "numbers":
        sides = column.window.astype(np.float64), column.reference.astype(np.float64)
        return compare_numbers(*sides, config, rng)
    if column.kind == "embeddings":
        return compare_embeddings(column.window, column.reference, config, rng)
    return compare_categories(*counts_of(column), config, rng)


def counts_of(column: Column) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Products of each category, in the order of `categories_of`."""
    position = np.searchsorted(categories_of(column), np.concatenate([column.window, column.reference]))
    n, num = len(column.window), len(categories_of(column))
    return np.bincount(position[:n], minlength=num), np.bincount(position[n:], minlength=num)


def categories_of(column: Column) -> Side:
    """(K,) what either side has of a column of categories, sorted."""
    found: Side = np.unique(np.concatenate([column.window, column.reference]))
    return found
