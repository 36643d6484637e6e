"""How often the answers of a window are right: estimated without labels, counted where feedback has come."""

import numpy as np
from scipy.stats import norm

from rakuten.model.reference import Observations
from rakuten.monitor.drift.report import Interval


def estimated_accuracy(reference: Observations, window: Observations, level: float) -> Interval:
    """Share of the window's answers that are right, told from their confidence: the mean of two estimates.

    One is the mean confidence, less by how much the model was too confident of the reference (Guillory et al., 2021,
    "difference of confidences"): the best where little changed, too high where much did. The other is the share of answers
    above the confidence that as many of the reference's are above as are right (Garg et al., 2022, "average thresholded
    confidence"): noisier, and too low where the first is too high. The interval has the chance of each answer on both sides
    and all that lies between the two. Neither knows that a product is of a category that the model has never met.
    """
    right = (reference.predicted == reference.labels).astype(np.float64)
    excess = right - reference.confidence
    by_mean = float(window.confidence.astype(np.float64).mean() + excess.mean())
    threshold = np.quantile(reference.confidence, 1 - right.mean())
    by_share = float((window.confidence > threshold).mean())
    error = excess.std() * np.sqrt(1 / len(window) + 1 / len(reference))
    half = float(norm.ppf((1 + level) / 2) * error) + abs(by_mean - by_share) / 2
    value = (by_mean + by_share) / 2
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
