"""Which products a run trains on, stops on, calibrates on and is judged on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rakuten.config import SplitConfig
from rakuten.data.features import Features
from rakuten.data.split import CALIB, TEST, TRAIN, carve_val
from rakuten.errors import DataError


@dataclass(frozen=True)
class Rows:
    """Row numbers of each side."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    calib: NDArray[np.int64]
    test: NDArray[np.int64]


def split_rows(features: Features, split: SplitConfig, seed: int) -> Rows:
    """The sides of the table, val drawn from train by the run's seed.

    Raises:
        DataError: train, val or test would be empty.
    """
    pool = features.rows(TRAIN)
    groups = features.table["group"].to_numpy().astype(np.int64)
    is_val = carve_val(features.labels[pool], groups[pool], split.val / (1 - split.test - split.calib), seed)
    rows = Rows(pool[~is_val], pool[is_val], features.rows(CALIB), features.rows(TEST))
    empty = [name for name in ("train", "val", "test") if len(getattr(rows, name)) == 0]
    if empty:
        raise DataError(
            f"no product is left for {', '.join(empty)}",
            expected="a catalogue large enough for the shares data.split.test, .calib and .val",
            got=f"{len(features.table)} products",
        )
    return rows


def side_rows(features: Features, split: SplitConfig, seed: int, side: str) -> NDArray[np.int64]:
    """Row numbers of the side of this name.

    Raises:
        DataError: no product is on it.
    """
    rows: NDArray[np.int64] = getattr(split_rows(features, split, seed), side)
    if len(rows) == 0:
        raise DataError(
            f"no product is on the side {side!r}", fix=f"a larger share data.split.{side}, or another split="
        )
    return rows
