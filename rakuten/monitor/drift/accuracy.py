"""How often the answers of a window are right: estimated without labels, counted where feedback has come."""

import numpy as np
from scipy.stats import norm

from rakuten.model.reference import Observations
from rakuten.monitor.drift.report import Interval


def estimated_accuracy(reference: Observations, window: Observations, level: float) -> Interval:
    """Share of the window's answers that are right: its mean calibrated confidence, less by how much the model was too
    confident of the reference.

    Guillory et al. (2021, "difference of confidences"). The interval has the chance of each answer on both sides; it trusts
    the model to be as honest about the window as about the reference, which it is not about products of a kind that it
    has never met.
    """
    excess = (reference.predicted == reference.labels) - reference.confidence.astype(np.float64)
    value = float(window.confidence.astype(np.float64).mean() + excess.mean())
    error = excess.std() * np.sqrt(1 / len(window) + 1 / len(reference))
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
