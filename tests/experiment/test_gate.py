"""What the gate asks: every check with its figures, passed and failed."""

from dataclasses import replace

import numpy as np
import pytest

from rakuten.cli import compose
from rakuten.config import GateConfig, PromoteConfig
from rakuten.data.labels import LabelSet
from rakuten.experiment.gate import Check, Judged, check_against, check_alone
from rakuten.experiment.metrics import Predictions

GATE: GateConfig = compose("promote", schema=PromoteConfig).gate
LABELS = LabelSet((10, 20, 30, 40), ("a", "b", "c", "d"))
NUM_ROWS = 2000


def judged(
    accuracy: float, seed: int = 0, confidence: float | None = None, spoilt: int | None = None
) -> Judged:
    """A model that is right on so many products, as sure as it is right, and never says class `spoilt`."""
    rng = np.random.default_rng(seed)
    labels = np.arange(NUM_ROWS) % len(LABELS)
    answers = np.where(rng.random(NUM_ROWS) < accuracy, labels, (labels + 1) % len(LABELS))
    if spoilt is not None:
        answers = np.where(answers == spoilt, (spoilt + 1) % len(LABELS), answers)
    sure = accuracy if confidence is None else confidence
    probs = np.full((NUM_ROWS, len(LABELS)), (1 - sure) / (len(LABELS) - 1))
    probs[np.arange(NUM_ROWS), answers] = sure
    return Judged(Predictions(labels, probs, np.arange(NUM_ROWS).astype(str)), latency_ms=5.0, bundle_mb=40.0)


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_a_sound_model_passes_alone() -> None:
    checks = check_alone(judged(0.8), GATE)
    assert failed(checks) == []
    assert {check.name for check in checks} == {
        "test_products",
        "weighted_f1",
        "calibration",
        "latency",
        "size",
    }


@pytest.mark.parametrize(
    ("model", "name", "said"),
    [
        (judged(0.3), "weighted_f1", "0.30"),
        (judged(0.8, confidence=0.97), "calibration", "calibration error, at most 0.0800"),
        (replace(judged(0.8), latency_ms=251.0), "latency", "251.0 ms for a product, at most 250.0"),
        (replace(judged(0.8), bundle_mb=2001.0), "size", "2001.0 MB on disk, at most 2000.0"),
    ],
)
def test_each_bound_refuses_what_is_beyond_it(model: Judged, name: str, said: str) -> None:
    [check] = [check for check in check_alone(model, GATE) if not check.passed]
    assert check.name == name
    assert said in check.text


def test_too_few_products_judge_nobody() -> None:
    few = judged(0.8).predictions
    cut = Predictions(few.labels[:99], few.probs[:99], few.rows[:99])
    assert failed(check_alone(Judged(cut, 5.0, 40.0), GATE)) == ["test_products"]


def against(challenger: Judged, champion: Judged, **changes: float) -> list[str]:
    return failed(check_against(challenger, champion, LABELS, replace(GATE, **changes), seed=0))


def test_better_passes_equal_and_worse_do_not() -> None:
    assert against(judged(0.85), judged(0.80)) == []
    assert against(judged(0.80), judged(0.80)) == ["margin"]
    assert against(judged(0.75), judged(0.80)) == ["margin"]


def test_a_margin_is_asked_of_the_interval_not_of_the_point() -> None:
    assert against(judged(0.85), judged(0.80), margin=0.02) == []
    assert against(judged(0.85), judged(0.80), margin=0.05) == ["margin"]


def test_chance_alone_passes_about_as_often_as_stated() -> None:
    """Equal models, each with its own mistakes: 40 pairs at alpha 0.05 pass 2 times on average, 7 are far beyond."""
    small = replace(GATE, num_resamples=200)
    passed = sum(
        not failed(check_against(judged(0.8, seed), judged(0.8, seed + 100), LABELS, small, seed=seed)[:1])
        for seed in range(40)
    )
    assert passed <= 6


def test_one_ruined_class_refuses_a_model_that_is_better_on_the_whole() -> None:
    challenger, champion = judged(0.99, spoilt=2), judged(0.60)
    [margin, classes] = check_against(challenger, champion, LABELS, GATE, seed=0)
    assert margin.passed
    assert not classes.passed
    assert "30 c: F1 0.6" in classes.text
    assert "to 0.0000 on 500 products" in classes.text
    assert classes.value > GATE.max_class_drop
