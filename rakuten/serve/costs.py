"""What a batch costs: a line through what the last ones took, so that a new one's time is known before it runs."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

Modality = Literal["text", "image"]
DECAY: Final = 0.97  # a batch counts half of one that is 23 batches younger
MIN_SPREAD: Final = 0.1  # of the mean size: among batches more alike no line can be told from a proportion


class LaneCost:
    """Seconds of a batch of x padded units (tokens or photos): overhead + x * per_unit, by decayed least squares."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._weight = self._x = self._y = self._xx = self._xy = self._parts = self._units = 0.0
        self.overhead_s = self.per_unit_s = 0.0

    def add(self, parts: int, units: int, padded: int, seconds: float) -> None:
        """A batch of `parts` products ran: `units` of their own, `padded` with what padding added."""
        with self._lock:
            sums = (self._weight, self._x, self._y, self._xx, self._xy, self._parts, self._units)
            new = (1.0, padded, seconds, padded * padded, padded * seconds, parts, units)
            self._weight, self._x, self._y, self._xx, self._xy, self._parts, self._units = (
                DECAY * old + value for old, value in zip(sums, new, strict=True)
            )
            self.overhead_s, self.per_unit_s = self._line()

    @property
    def measured(self) -> bool:
        return self._weight > 0

    @property
    def mean_units(self) -> float:
        """Of a product."""
        return self._units / self._parts if self._parts else 0.0

    @property
    def padding(self) -> float:
        """Padded units for each unit, >= 1."""
        return self._x / self._units if self._units else 1.0

    @property
    def free_units(self) -> float:
        """Padding that costs no more than a batch of its own would."""
        return self.overhead_s / self.per_unit_s if self.per_unit_s > 0 else 0.0

    def seconds(self, padded: float, batches: float = 1) -> float:
        """0 where nothing is measured yet."""
        return self.overhead_s * batches + self.per_unit_s * padded

    def _line(self) -> tuple[float, float]:
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        variance = self._xx / self._weight - mean_x**2
        proportion = (0.0, mean_y / mean_x)
        if variance < (MIN_SPREAD * mean_x) ** 2:
            return proportion
        slope = (self._xy / self._weight - mean_x * mean_y) / variance
        if slope <= 0:  # on a busy machine chance can make the larger batch the faster one
            return mean_y, 0.0
        overhead = mean_y - slope * mean_x
        return (overhead, slope) if overhead > 0 else proportion


@dataclass(frozen=True, eq=False)
class Costs:
    """Of one model in memory: whatever ran it adds what it took."""

    text: LaneCost = field(default_factory=LaneCost)
    image: LaneCost = field(default_factory=LaneCost)

    def lane(self, modality: Modality) -> LaneCost:
        return self.text if modality == "text" else self.image

    def seconds(self, modalities: Iterable[Modality] = ("text", "image")) -> float:
        """Of a product of mean size that has these, alone."""
        lanes = [self.lane(modality) for modality in modalities]
        return sum(lane.seconds(lane.mean_units) for lane in lanes)
