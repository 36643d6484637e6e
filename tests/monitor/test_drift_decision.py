"""What is decided on windows: warnings, alarms of bounded rate, and collapse told from drift."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from rakuten.model.reference import Observations
from rakuten.monitor.drift.checks import check
from rakuten.monitor.drift.decision import Decision, look
from tests.monitor.drift_data import CODES, SHARES, drift_config, reference, traffic

CONFIG = drift_config()
REFERENCE = reference()


def decide_on(*windows: Observations) -> Decision:
    return look(REFERENCE, windows, CONFIG)[0]


def longer(window: Observations, by: float) -> Observations:
    """Titles longer by so many characters."""
    return replace(window, numbers={**window.numbers, "title_chars": window.numbers["title_chars"] + by})


def answering(window: Observations, position: int) -> Observations:
    """The same products, of a model that says one class."""
    probs = np.full_like(window.probs, 0.01)
    probs[:, position] = 0.95
    return replace(window, probs=probs)


def test_quiet_traffic_is_nothing() -> None:
    decision = decide_on(traffic(1, 300))
    assert (decision.kind, decision.severity, decision.retrain) == ("none", "none", False)
    assert decision.reasons == decision.tests == decision.examples == ()


def test_a_gross_change_is_an_alarm_that_proposes_to_train() -> None:
    decision = decide_on(longer(traffic(2, 300), 30))
    assert (decision.kind, decision.severity, decision.retrain) == ("drift", "alarm", True)
    assert decision.tests[0] == "title_chars"
    assert decision.reasons[0].startswith("titles are longer")
    assert len(decision.examples) >= CONFIG.num_examples
    assert decision.level == CONFIG.alarm_alpha
    assert json.loads(json.dumps(decision.to_json()))["kind"] == "drift"


def test_evidence_for_a_warning_is_none_for_an_alarm() -> None:
    """Of windows with a moderate change some warn; an alarm asks for fifty times as much."""
    seen = [decide_on(longer(traffic(20 + seed, 100), 3.5)) for seed in range(12)]
    severities = [each.severity for each in seen]
    assert "warning" in severities
    assert all(not each.retrain for each in seen if each.severity == "warning")


def test_a_change_too_small_for_one_window_is_found_in_several_together() -> None:
    windows = [longer(traffic(40 + seed, 100), 2.0) for seed in range(7)]
    alone = [decide_on(window).severity for window in windows]
    assert alone.count("alarm") <= 1
    together, reports = look(REFERENCE, windows, CONFIG)
    assert together.severity == "alarm"
    assert [report.n for report in reports] == [100, 700]


def test_as_many_windows_as_there_are_do() -> None:
    _, reports = look(REFERENCE, [traffic(50 + seed, 60) for seed in range(3)], CONFIG)
    assert [report.n for report in reports] == [60, 180]
    _, reports = look(REFERENCE, [traffic(53, 60)], CONFIG)
    assert [report.n for report in reports] == [60]


def test_too_little_data_is_no_verdict() -> None:
    decision = decide_on(traffic(3, 10))
    assert (decision.kind, decision.severity) == ("not_enough_data", "none")


@pytest.mark.parametrize("position", range(len(CODES)))
def test_a_model_that_answers_one_class_has_collapsed_and_the_products_have_not_drifted(
    position: int,
) -> None:
    decision = decide_on(answering(traffic(4, 50), position))
    assert (decision.kind, decision.severity, decision.retrain) == ("collapse", "alarm", False)
    assert decision.reasons[0].startswith(
        f"the model answers {CODES[position]} for 100% of the last 50 products"
    )


def test_a_collapse_at_the_end_of_a_large_window_is_seen() -> None:
    window = Observations.together([traffic(5, 600), answering(traffic(6, 50), 0)])
    assert decide_on(window).kind == "collapse"


def test_a_class_that_grows_is_drift_and_no_collapse() -> None:
    window = traffic(7, 400, 0.5 * SHARES + 0.5 * np.eye(6)[0])
    assert decide_on(window).kind == "drift"


@pytest.mark.slow
def test_a_decision_without_drift_is_an_alarm_as_rarely_as_said() -> None:
    """Both scales, each on a share of the level, which is 5 % here: few decisions can tell. Two levels too many, or none
    of the corrections, and this fails."""
    level, num = 0.05, 200
    config = drift_config(max_draws=5_000, max_embeddings=200, alarm_alpha=level)
    alarms = 0
    for seed in range(num):
        seen = traffic(5_000 + seed, 800)
        windows = [traffic(10_000 + 10 * seed + i, 60) for i in range(7)]
        found = [check(seen, part, config) for part in (windows[-1], Observations.together(windows))]
        alarms += any(each.significant(level / 2) for checks in found for each in checks)
    assert alarms <= stats.binom.ppf(0.9999, num, level)
