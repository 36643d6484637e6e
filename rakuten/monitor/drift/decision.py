"""From reports to a decision: nothing, a warning or an alarm, of drift or of collapse, with bounded false alarms."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from rakuten.config.monitoring import DriftConfig
from rakuten.model.reference import Observations, Reference
from rakuten.monitor.collapse import WINDOW, collapse_of
from rakuten.monitor.drift.compare import compare
from rakuten.monitor.drift.report import DriftReport, TestResult

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
    retrain: bool  # proposed; a collapse is mended by going back, not by training
    level: float  # chance that a decision without drift is an alarm

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return asdict(self)


def look(
    reference: Reference,
    windows: Sequence[Observations],
    config: DriftConfig,
) -> tuple[Decision, list[DriftReport]]:
    """The decision on the last of `windows`, with one report a scale: the last window, the last seven together, ...

    Where there are too few windows for a scale, it looks at as many as there are.

    Args:
        windows: oldest first, at least one; as many as `max(config.scales)` are looked at.
    """
    scales = sorted({min(scale, len(windows)) for scale in config.scales})
    reports = [compare(reference, Observations.together(windows[-scale:]), config) for scale in scales]
    return decide(reports, config, _collapse(reference, windows[-1])), reports


def _collapse(reference: Reference, window: Observations) -> str | None:
    """What the detector of collapse says of the window's last answers, in words; None where it sees none."""
    codes = reference.codes
    shares = np.bincount(reference.seen.predicted, minlength=len(codes)) / len(reference.seen)
    last = Counter(codes[position] for position in window.predicted[-WINDOW:].tolist())
    found = collapse_of(last, dict(zip(codes, shares.tolist(), strict=True)))
    if not found.collapsed:
        return None
    usual = shares[codes.index(found.top_code)] if found.top_code is not None else 0.0
    return (
        f"the model answers {found.top_code} for {found.top_share:.0%} of the last {found.num_answers} products, where"
        f" the evaluated one did for {usual:.1%}: go back to the release before, or look whether one customer sends"
        " one category"
    )


def decide(reports: Sequence[DriftReport], config: DriftConfig, collapse: str | None = None) -> Decision:
    """The decision on reports of the same moment, one a scale, the shortest first.

    A warning is a drift of the newest window at `window_alpha`. An alarm is a drift at `alarm_alpha` shared among the
    scales. The bound: each decision without drift is an alarm with a chance of at most `alarm_alpha`, so that T of them
    hold at most `T alarm_alpha` false alarms on average, for every T and however long the service lives, and the first
    comes after 1 / (2 alarm_alpha) decisions or more on average. It is a union bound, which needs no independence: all
    windows are held against the same reference, whose own sampling error they share. That is why p-values of several
    windows are not multiplied into an e-process, whose bound (Ville's inequality) would need each to hold given those
    before; windows are looked at together instead, which finds small drifts that last. The formulation by run length is
    that of Shin, Ramdas & Rinaldo, "E-detectors", 2023.
    """
    level = config.alarm_alpha / len(config.scales)
    alarming = [[each for each in report.drifted if _at_most(each, level)] for report in reports]
    loudest = max(range(len(reports)), key=lambda i: (len(alarming[i]), -i))
    found = alarming[loudest] or list(reports[0].drifted)
    severity: Severity = "alarm" if alarming[loudest] else "warning" if found else "none"
    kind: Kind = "drift" if found else "none"
    if not any(report.enough_data for report in reports):
        kind = "not_enough_data"
    decision = Decision(
        kind=kind,
        severity=severity,
        reasons=tuple(each.text for each in found),
        tests=tuple(each.name for each in found),
        examples=tuple(dict.fromkeys(name for each in found for name in each.examples)),
        retrain=kind == "drift" and severity == "alarm",
        level=config.alarm_alpha,
    )
    if collapse is not None:
        # The answers' drift is its symptom: not the products changed but the model.
        return replace(decision, kind="collapse", severity="alarm", reasons=(collapse,), retrain=False)
    return decision


def _at_most(result: TestResult, level: float) -> bool:
    return result.p_adjusted is not None and result.p_adjusted <= level
