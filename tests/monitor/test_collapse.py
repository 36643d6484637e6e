"""A model that answers one class is told within fifty answers; traffic as ever is not."""

import numpy as np
import pytest

from rakuten.data.demo_words import CLASS_SIZES
from rakuten.data.labels import Code
from rakuten.monitor.collapse import LEVEL, MIN_ANSWERS, WINDOW, CollapseDetector, collapse_of

TOTAL = sum(CLASS_SIZES.values())
SHARES: dict[Code, float] = {code: size / TOTAL for code, size in CLASS_SIZES.items()}


def healthy(seed: int, num: int) -> list[int]:
    return [
        int(c) for c in np.random.default_rng(seed).choice(list(CLASS_SIZES), num, p=list(SHARES.values()))
    ]


@pytest.mark.parametrize("code", CLASS_SIZES)
def test_one_class_for_everything_is_told_within_fifty_answers(code: int) -> None:
    """From the first answer on as well as after a good time, for the rarest and the most common class."""
    for before in (0, 200):
        detector = CollapseDetector(SHARES)
        assert not any(detector.observe(each).collapsed for each in healthy(code, before))
        told = [detector.observe(code) for _ in range(WINDOW)]
        first = next(index for index, each in enumerate(told, start=1) if each.collapsed)
        assert first <= (MIN_ANSWERS if before == 0 else 0.8 * WINDOW)
        assert told[-1].top_code == code
        assert told[-1].top_share == 1
        assert told[-1].entropy_bits == 0


def test_four_workers_tell_within_fifty_answers_together() -> None:
    workers = [CollapseDetector(SHARES, max(MIN_ANSWERS, WINDOW // 4)) for _ in range(4)]
    for index, code in enumerate(healthy(0, 400)):
        assert not workers[index % 4].observe(code).collapsed
    assert any(workers[index % 4].observe(2583).collapsed for index in range(WINDOW))


def test_a_few_right_answers_in_between_hide_nothing() -> None:
    detector = CollapseDetector(SHARES)
    told = [
        detector.observe(each if index % 10 == 0 else 10) for index, each in enumerate(healthy(1, WINDOW))
    ]
    assert told[-1].collapsed


def test_traffic_as_the_reference_has_it_raises_no_alarm() -> None:
    detector = CollapseDetector(SHARES)
    told = [detector.observe(code) for code in healthy(2, 50_000)]
    assert not any(each.collapsed for each in told)
    assert np.mean([each.entropy_bits for each in told[WINDOW:]]) > 3.5


def test_the_stated_false_alarm_rate_is_an_upper_bound() -> None:
    """Of windows drawn as the reference says, at most a share t has a p-value <= t: seen where t is not tiny."""
    shares: dict[Code, float] = {"a": 0.7, "b": 0.3}
    counts = np.random.default_rng(3).binomial(20, 0.7, 20_000)
    p_values = np.array(
        [collapse_of({"a": int(each), "b": 20 - int(each)}, shares).p_value for each in counts]
    )
    for level in (0.005, 0.02, 0.08, 0.25):
        share = float((p_values <= level).mean())
        assert share <= level + 3 * np.sqrt(level / len(counts))
    # Not so far above that it never speaks: P(X >= 18) = 0.0355, said of two classes.
    assert collapse_of({"a": 18, "b": 2}, shares).p_value == pytest.approx(2 * 0.03548, rel=1e-3)


def test_a_shop_of_mostly_one_class_is_no_collapse() -> None:
    shares: dict[Code, float] = {"books": 0.9, "toys": 0.1}
    detector = CollapseDetector(shares)
    assert not any(detector.observe("books").collapsed for _ in range(200))
    other = CollapseDetector(shares)
    assert [other.observe("toys").collapsed for _ in range(WINDOW)][-1]


def test_a_large_shift_is_drift_and_no_collapse() -> None:
    """Half of all answers of one class is far from the reference, and still a model that answers."""
    rng = np.random.default_rng(4)
    detector = CollapseDetector(SHARES)
    codes = [10 if rng.random() < 0.5 else code for code in healthy(5, 2000)]
    assert not any(detector.observe(code).collapsed for code in codes)


def test_nothing_is_said_of_nothing() -> None:
    empty = collapse_of({}, SHARES)
    assert (empty.num_answers, empty.collapsed, empty.p_value) == (0, False, 1.0)
    assert LEVEL < 1e-6
