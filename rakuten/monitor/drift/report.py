"""What the comparison of a window with the reference found, in numbers and in words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rakuten.data.labels import Code

State = Literal["ok", "drift", "not_enough_data"]


@dataclass(frozen=True)
class Interval:
    """A figure and where it may lie, at the level of `DriftConfig.interval`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TestResult:
    """One column of the window against the same column of the reference."""

    name: str  # "classes", "confidence", "language", "sharpness", "has_image", "text_embedding", ...
    state: State
    n: int  # products of the window that have this column
    n_reference: int
    n_needed: int  # of either side, before the test says anything
    p_value: float | None  # of this test alone; None without enough data, as all below
    p_adjusted: float | None  # Holm, over all tests of the report: drift where <= alpha
    effect: float | None
    effect_name: str  # "Cohen's w", "Kolmogorov-Smirnov distance", "kernel distance"
    least_effect: float  # what matters, by configuration
    text: str  # "photos are less sharp: median 12 to 4"
    examples: tuple[str, ...] = ()  # prediction ids that show it most


@dataclass(frozen=True)
class ShareEstimate:
    """The share of a category in the window, as BBSE estimates it, beside its share in the reference."""

    code: Code
    reference: float
    share: Interval
    changed: bool  # the interval, corrected for the number of categories, leaves out the reference's share


@dataclass(frozen=True)
class DriftReport:
    """A window against the reference."""

    n: int
    n_reference: int
    results: tuple[TestResult, ...]
    label_shift: tuple[ShareEstimate, ...]  # empty without enough data
    estimated_accuracy: Interval | None  # without labels
    reference_accuracy: float
    true_accuracy: Interval | None  # of products with feedback, which are not drawn at random
    num_feedback: int
    alpha: float  # of all tests together
    seed: int

    @property
    def drifted(self) -> tuple[TestResult, ...]:
        """Significant and large enough to matter, most significant first."""
        found = [result for result in self.results if result.state == "drift"]
        return tuple(sorted(found, key=lambda each: (each.p_adjusted or 0.0, -(each.effect or 0.0))))

    @property
    def enough_data(self) -> bool:
        """Some test had enough to say something."""
        return any(result.state != "not_enough_data" for result in self.results)

    def to_json(self) -> Mapping[str, Any]:
        """Plain types only."""
        return asdict(self)
