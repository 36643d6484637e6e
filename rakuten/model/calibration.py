"""Logits -> calibrated probabilities: the same few lines of numpy for evaluation and for every runtime of the service."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Calibration:
    """Temperatures (Guo et al., 2017). A photo alone speaks on another scale than a text: each has its own."""

    temperature: float
    temperature_without_text: float

    @classmethod
    def of(cls, saved: Mapping[str, float]) -> "Calibration":
        """From a bundle's JSON."""
        temperature = float(saved["temperature"])
        return cls(temperature, float(saved.get("temperature_without_text", temperature)))

    def probabilities(self, logits: ArrayLike, has_text: ArrayLike) -> NDArray[np.float64]:
        """(B, C) probabilities of (B, C) logits; `has_text` (B,) bool says which temperature a row is divided by."""
        temperature = np.where(has_text, self.temperature, self.temperature_without_text)[:, None]
        scaled = np.asarray(logits, dtype=np.float64) / temperature
        odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
        return probabilities
