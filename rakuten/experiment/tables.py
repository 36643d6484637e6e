"""The counts behind the scores, as the report prints and draws them: by class and by confidence."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from rakuten.data.labels import Code, LabelSet
from rakuten.experiment.metrics import NUM_BINS, Floats, Ints, Predictions, bin_of


class ClassRow(TypedDict):
    """One class of `per_class_table`. None where undefined: precision of what is never predicted, and so on."""

    code: Code
    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int  # rows of this class
    predicted: int  # rows put into this class
    confused_with: Code | None  # where most of this class's misplaced rows went
    confused_with_name: str | None
    confused_count: int


@dataclass(frozen=True, eq=False)
class CalibrationBins:
    """Rows by confidence, in NUM_BINS bins of equal width; (NUM_BINS,) each, means are 0 in empty bins."""

    counts: Ints
    confidence: Floats
    accuracy: Floats


def confusion_matrix(predictions: Predictions) -> Ints:
    """(C, C) counts; row: true class, column: predicted class."""
    num_classes = predictions.num_classes
    cells = predictions.labels * num_classes + predictions.predicted
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class_table(predictions: Predictions, labels: LabelSet) -> list[ClassRow]:
    """One row a class, in the order of `labels`, classes without any row too."""
    matrix = confusion_matrix(predictions)
    hits, support, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    errors = matrix - np.diag(hits)
    return [
        ClassRow(
            code=labels.codes[i],
            name=labels.names[i],
            precision=_ratio(hits[i], predicted[i]),
            recall=_ratio(hits[i], support[i]),
            f1=_ratio(2 * hits[i], support[i] + predicted[i]),
            support=int(support[i]),
            predicted=int(predicted[i]),
            confused_with=labels.codes[errors[i].argmax()] if errors[i].any() else None,
            confused_with_name=labels.names[errors[i].argmax()] if errors[i].any() else None,
            confused_count=int(errors[i].max()),
        )
        for i in range(len(labels))
    ]


def calibration_bins(predictions: Predictions) -> CalibrationBins:
    """The bins behind ece: how sure the model was and how often it was right."""
    bins = bin_of(predictions.confidence)
    counts = np.bincount(bins, minlength=NUM_BINS)
    correct = (predictions.predicted == predictions.labels).astype(np.float64)
    confidence = np.bincount(bins, predictions.confidence, NUM_BINS) / np.maximum(counts, 1)
    return CalibrationBins(counts, confidence, np.bincount(bins, correct, NUM_BINS) / np.maximum(counts, 1))


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
