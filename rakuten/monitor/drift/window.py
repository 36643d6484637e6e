"""Rows of the inference log -> columns to compare."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakuten.data.labels import Code
from rakuten.model.reference import Observations, Reference
from rakuten.monitor.record import PredictionRecord


def window_of(
    records: Sequence[PredictionRecord], reference: Reference, feedback: Mapping[str, Code] | None = None
) -> Observations:
    """The window of these records, all of the reference's model version.

    A product that was asked for several times counts once, its first time: tests take products to come independently,
    and a client that repeats itself is not drift.

    Args:
        feedback: prediction id -> the right code, where somebody said so.
    """
    kept = list({product_key(each): each for each in reversed(records)}.values())
    kept.reverse()
    given = feedback or {}
    position = {code: i for i, code in enumerate(reference.codes)}
    labels = [
        position.get(given[each.prediction_id], -1) if each.prediction_id in given else -1 for each in kept
    ]
    return Observations.of(
        ids=[each.prediction_id for each in kept],
        probs=np.array([each.probs for each in kept], dtype=np.float32).reshape(-1, len(reference.codes)),
        statistics=[each.statistics for each in kept],
        embeddings={
            name: _stacked([getattr(each, f"{name}_embedding") for each in kept], embedding.shape[1])
            for name, embedding in reference.seen.embeddings.items()
        },
        labels=np.array(labels, dtype=np.int64),
    )


def product_key(record: PredictionRecord) -> Hashable:
    """Equal for the same product, asked for again."""
    # A runtime's last digits depend on what else was in the batch.
    return (np.round(record.probs, 3) + 0.0).tobytes(), astuple(record.statistics)


def _stacked(rows: Sequence[NDArray[Any] | None], width: int) -> NDArray[np.float32]:
    absent = np.full(width, np.nan, dtype=np.float32)
    return np.array([absent if row is None else row for row in rows], dtype=np.float32).reshape(-1, width)
