"""How often the answers of a window are right: estimated without labels, counted where feedback has come."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from rakuten.model.reference import Observations
from rakuten.monitor.drift.report import Interval


def estimated_accuracy(reference: Observations, window: Observations, level: float) -> Interval:
    """Mean calibrated confidence of the window, less by how much it was too confident of the reference.

    Guillory et al. (2021, "difference of confidences"). The interval has the sampling error of both sides; it trusts
    the model to be as honest about the window as about the reference.
    """
    excess = (reference.predicted == reference.labels) - reference.confidence.astype(np.float64)
    confidence = window.confidence.astype(np.float64)
    value = float(confidence.mean() + excess.mean())
    error = np.sqrt(_variance_of_mean(confidence) + _variance_of_mean(excess))
    half = float(norm.ppf((1 + level) / 2) * error)
    return Interval(*(float(np.clip(each, 0, 1)) for each in (value, value - half, value + half)))


def true_accuracy(window: Observations, level: float) -> Interval | None:
    """Of the products whose label came back, with Wilson's interval (1927); None where none did.

    People correct what is wrong more often than they confirm what is right, so this is of the products with feedback,
    not of all, and usually too low.
    """
    known = window.labels >= 0
    num = int(known.sum())
    if num == 0:
        return None
    right = float((window.predicted[known] == window.labels[known]).mean())
    z = float(norm.ppf((1 + level) / 2))
    centre = (right + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * np.sqrt(right * (1 - right) / num + z**2 / (4 * num**2))
    return Interval(right, float(max(0, centre - half)), float(min(1, centre + half)))


def _variance_of_mean(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 1.0
