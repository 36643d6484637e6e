"""Champion against challenger: every check that a promotion must pass, each with its figures."""

from dataclasses import dataclass

import numpy as np

from rakuten.config.promotion import GateConfig
from rakuten.data.labels import LabelSet
from rakuten.experiment.metrics import Predictions, paired_bootstrap, score
from rakuten.experiment.tables import per_class_table


@dataclass(frozen=True)
class Judged:
    """What a bundle said of the frozen test products, and what it costs."""

    predictions: Predictions
    latency_ms: float  # median of one product
    bundle_mb: float  # 10^6 bytes


@dataclass(frozen=True)
class Check:
    """One requirement: what was measured, what is asked, and whether it holds."""

    name: str
    passed: bool
    value: float
    bound: float
    text: str  # in words, with its figures


def check_alone(challenger: Judged, gate: GateConfig) -> list[Check]:
    """What is asked of every challenger, be there a champion or not."""
    scores = score(challenger.predictions)
    f1, ece = scores["weighted_f1"] or 0.0, scores["ece"] or 0.0
    num_products = len(challenger.predictions)
    return [
        _at_least("test_products", num_products, gate.min_test_products, "test products", "d"),
        _at_least("weighted_f1", f1, gate.min_weighted_f1, "weighted F1", ".4f"),
        _at_most("calibration", ece, gate.max_ece, "calibration error", ".4f"),
        _at_most("latency", challenger.latency_ms, gate.max_latency_ms, "ms for a product", ".1f"),
        _at_most("size", challenger.bundle_mb, gate.max_bundle_mb, "MB on disk", ".1f"),
    ]


def check_against(
    challenger: Judged, champion: Judged, labels: LabelSet, gate: GateConfig, seed: int
) -> list[Check]:
    """What is asked of a challenger where there is a champion, both on the same products.

    The margin is tested one-sided: the lower end of a (1 - 2 alpha) interval of the paired bootstrap lies beyond it.
    """
    difference = paired_bootstrap(
        challenger.predictions,
        champion.predictions,
        "weighted_f1",
        gate.num_resamples,
        seed,
        level=1 - 2 * gate.alpha,
    )
    margin = Check(
        name="margin",
        passed=difference.low > gate.margin,
        value=difference.low,
        bound=gate.margin,
        text=f"weighted F1 {difference.difference:+.4f} against the champion's, at least {difference.low:+.4f} with"
        f" {1 - gate.alpha:.0%} confidence; more than {gate.margin:+.4f} asked",
    )
    return [margin, _worst_class(challenger.predictions, champion.predictions, labels, gate.max_class_drop)]


def _worst_class(challenger: Predictions, champion: Predictions, labels: LabelSet, max_drop: float) -> Check:
    rows = zip(per_class_table(champion, labels), per_class_table(challenger, labels), strict=True)
    falls = [((old["f1"] or 0.0) - (new["f1"] or 0.0), old, new) for old, new in rows if old["support"]]
    worst = int(np.argmax([fall for fall, _, _ in falls]))
    fall, old, new = falls[worst]
    return Check(
        name="classes",
        passed=fall <= max_drop,
        value=fall,
        bound=max_drop,
        text=f"the class that falls most, {old['code']} {old['name']}: F1 {old['f1'] or 0:.4f} to {new['f1'] or 0:.4f} on"
        f" {old['support']} products; a fall of at most {max_drop:.2f} allowed",
    )


def _at_least(name: str, value: float, bound: float, unit: str, digits: str) -> Check:
    text = f"{value:{digits}} {unit}, at least {bound:{digits}} asked"
    return Check(name, value >= bound, float(value), float(bound), text)


def _at_most(name: str, value: float, bound: float, unit: str, digits: str) -> Check:
    text = f"{value:{digits}} {unit}, at most {bound:{digits}} allowed"
    return Check(name, value <= bound, float(value), float(bound), text)
