"""From reports to a decision: nothing, a warning or an alarm, of drift or of collapse, with bounded false alarms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rakuten.config.monitoring import DriftConfig
from rakuten.model.reference import Observations, Reference
from rakuten.monitor.drift.report import DriftReport

Kind = Literal["none", "drift", "collapse", "not_enough_data"]
Severity = Literal["none", "warning", "alarm"]


@dataclass(frozen=True)
class Decision:
    """What to make of the newest window."""

    kind: Kind
    severity: Severity
    reasons: tuple[str, ...]  # in words, the strongest first
    tests: tuple[str, ...]  # names of the results that carry it
    examples: tuple[str, ...]  # prediction ids that show it most
    retrain: bool  # proposed: new labels and a training would mend it; a collapse is mended by going back
    level: float  # chance that this decision was an alarm without drift

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        raise NotImplementedError


def look(
    reference: Reference, windows: Sequence[Observations], config: DriftConfig
) -> tuple[Decision, list[DriftReport]]:
    """The decision on the last of `windows` (oldest first), with one report a scale: the last window, the last seven, ..."""
    raise NotImplementedError


def decide(reports: Sequence[DriftReport], config: DriftConfig) -> Decision:
    """The decision on reports of the same moment, one a scale, the shortest first."""
    raise NotImplementedError
