"""The alarms that people use today, on the same columns: Evidently's defaults, and PSI at 0.2 or more."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests.registry import get_stattest
from evidently.legacy.core import ColumnType
from numpy.typing import NDArray

from rakuten.monitor.drift.checks import Column

PSI_ALARM = 0.2
PSI_FLOOR = 1e-4  # of an empty bin's share
DATASET_SHARE = 0.5  # Evidently: the data have drifted when so many of the columns have


@dataclass(frozen=True)
class Others:
    """Who would have alarmed."""

    evidently_any: bool  # a column
    evidently_dataset: bool  # half of the columns
    psi_any: bool
    psi_classes: bool


def ask_others(columns: Iterable[Column]) -> Others:
    """What they say of a window; embeddings are no columns to either."""
    compared = [each for each in columns if each.kind != "embeddings" and len(each.window)]
    drifted = [evidently_alarms(each) for each in compared]
    shifted = {each.name: psi(each) >= PSI_ALARM for each in compared}
    return Others(
        evidently_any=any(drifted),
        evidently_dataset=float(np.mean(drifted)) >= DATASET_SHARE,
        psi_any=any(shifted.values()),
        psi_classes=shifted["classes"],
    )


def evidently_alarms(column: Column) -> bool:
    """The test and threshold that DataDriftPreset takes for such a column and such a reference."""
    kind = ColumnType.Numerical if column.kind == "numbers" else ColumnType.Categorical
    reference, window = pd.Series(column.reference), pd.Series(column.window)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(get_stattest(reference, window, kind, None)(reference, window, kind, None).drifted)


def psi(column: Column) -> float:
    """Population stability index over ten bins of equal count in the reference, or over the categories."""
    was, now = _shares(column.reference, column.window, column.kind == "numbers")
    was, now = np.maximum(was, PSI_FLOOR), np.maximum(now, PSI_FLOOR)
    return float(((now - was) * np.log(now / was)).sum())


def _shares(reference: NDArray[Any], window: NDArray[Any], numeric: bool) -> list[NDArray[np.float64]]:
    if numeric:
        edges = np.unique(np.quantile(reference, np.arange(1, 10) / 10))
        places = [np.searchsorted(edges, side) for side in (reference, window)]
        num = len(edges) + 1
    else:
        found = np.unique(np.concatenate([reference, window]))
        places = [np.searchsorted(found, side) for side in (reference, window)]
        num = len(found)
    return [np.bincount(place, minlength=num) / len(place) for place in places]
