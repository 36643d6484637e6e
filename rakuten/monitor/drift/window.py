"""Rows of the inference log -> columns to compare."""

from collections.abc import Sequence

from rakuten.data.labels import Code
from rakuten.model.reference import Observations
from rakuten.monitor.record import PredictionRecord


def window_of(
    records: Sequence[PredictionRecord],
    codes: Sequence[Code],
    feedback: dict[str, Code] | None = None,
) -> Observations:
    """The window of these records of one model version.

    Args:
        codes: (C,) of the reference.
        feedback: prediction id -> the right code, where somebody said so.
    """
    raise NotImplementedError
