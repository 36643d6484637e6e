"""Scores against hand-computed cases and scikit-learn; intervals against what they promise."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from rakuten.data.labels import LabelSet
from rakuten.errors import DataError, RakutenError
from rakuten.experiment.metrics import METRICS, Predictions, bootstrap_intervals, paired_bootstrap, score
from rakuten.experiment.tables import calibration_bins, confusion_matrix, per_class_table


def predictions_of(labels: list[int], probs: list[list[float]]) -> Predictions:
    return Predictions(np.array(labels), np.array(probs), np.arange(len(labels)).astype(str))


def sampled(num_rows: int, num_classes: int, seed: int, skill: float = 2.0) -> Predictions:
    """Noisy predictions of skewed classes."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, num_classes + 1)
    labels = rng.choice(num_classes, num_rows, p=shares / shares.sum())
    logits = rng.normal(size=(num_rows, num_classes))
    logits[np.arange(num_rows), labels] += skill
    probs = np.exp(logits)
    return Predictions(labels, probs / probs.sum(axis=1, keepdims=True), np.arange(num_rows).astype(str))


def calibrated(num_rows: int, seed: int, overconfidence: float = 1.0) -> Predictions:
    """Labels drawn from a model's own probabilities, which are then sharpened."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet([0.4] * 4, num_rows)
    labels = (probs.cumsum(axis=1) > rng.random((num_rows, 1)) * 0.999999).argmax(axis=1)
    said = probs**overconfidence
    return Predictions(labels, said / said.sum(axis=1, keepdims=True), np.arange(num_rows).astype(str))


def test_small_case_by_hand() -> None:
    scores = score(
        predictions_of(
            [0, 0, 1, 2],
            [
                [0.7, 0.1, 0.1, 0.1],
                [0.2, 0.6, 0.1, 0.1],  # 0 taken for 1
                [0.1, 0.8, 0.05, 0.05],
                [0.4, 0.3, 0.1, 0.2],  # 2 taken for 0, and fourth of four
            ],
        )
    )
    # F1: class 0 has 1 hit, 2 rows, 2 predicted = 1/2; class 1: 1 hit, 1 row, 2 predicted = 2/3; class 2: 0;
    # class 3 occurs nowhere and does not count.
    assert scores["macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert scores["weighted_f1"] == pytest.approx((2 * 1 / 2 + 1 * 2 / 3 + 0) / 4)
    assert scores["accuracy"] == pytest.approx(2 / 4)
    assert scores["top3"] == pytest.approx(3 / 4)
    assert scores["log_loss"] == pytest.approx(-np.log([0.7, 0.2, 0.8, 0.1]).mean())
    # Confidences .7 .6 .8 .4 fall into four bins of their own: |1-.7| + |0-.6| + |1-.8| + |0-.4|.
    assert scores["ece"] == pytest.approx((0.3 + 0.6 + 0.2 + 0.4) / 4)


def test_ece_pools_rows_of_one_bin() -> None:
    # Three rows share the bin (12/15, 13/15]: two right, mean confidence 0.84; one lies alone, right at 0.9.
    scores = score(
        predictions_of([0, 0, 1, 0], [[0.82, 0.18], [0.84, 0.16], [0.86, 0.14], [0.9, 0.1]]),
    )
    assert scores["ece"] == pytest.approx((3 * abs(2 / 3 - 0.84) + abs(1 - 0.9)) / 4)


@pytest.mark.parametrize(("num_rows", "num_classes"), [(40, 27), (500, 2), (500, 3), (2000, 27), (300, 60)])
def test_agrees_with_sklearn(num_rows: int, num_classes: int) -> None:
    given = sampled(num_rows, num_classes, seed=num_rows)
    true, predicted, classes = given.labels, given.predicted, np.arange(num_classes)
    expected = {
        "weighted_f1": sklearn_metrics.f1_score(true, predicted, average="weighted", zero_division=0),
        "macro_f1": sklearn_metrics.f1_score(true, predicted, average="macro", zero_division=0),
        "accuracy": sklearn_metrics.accuracy_score(true, predicted),
        "log_loss": sklearn_metrics.log_loss(true, given.probs, labels=classes),
    }
    if num_classes > 3:
        expected["top3"] = sklearn_metrics.top_k_accuracy_score(true, given.probs, k=3, labels=classes)
    scores = score(given)
    assert list(scores) == list(METRICS)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert (
        confusion_matrix(given) == sklearn_metrics.confusion_matrix(true, predicted, labels=classes)
    ).all()


def test_impossible_row_costs_much_but_not_infinity() -> None:
    assert score(predictions_of([0], [[0.0, 1.0]]))["log_loss"] == pytest.approx(36.04, abs=0.01)


def test_fewer_than_three_classes_are_always_among_the_first_three() -> None:
    assert score(predictions_of([0, 1], [[0.1, 0.9], [0.9, 0.1]]))["top3"] == 1


def test_equal_probabilities_rank_the_first_class_first() -> None:
    tied = score(predictions_of([0, 2, 3], [[0.25] * 4] * 3))
    assert tied["accuracy"] == pytest.approx(1 / 3)
    assert tied["top3"] == pytest.approx(2 / 3)


def test_no_rows_give_none() -> None:
    empty = Predictions(np.zeros(0, int), np.zeros((0, 5)), np.zeros(0, str))
    assert score(empty) == dict.fromkeys(METRICS, None)
    assert bootstrap_intervals(empty, 10, seed=0) == {}


@pytest.mark.parametrize(
    ("labels", "probs"),
    [
        ([0, 1], [[0.5, 0.5]]),
        ([0], [[1.0]]),
        ([2], [[0.5, 0.5]]),
        ([-1], [[0.5, 0.5]]),
        ([0], [[3.0, -2.0]]),
        ([0], [[0.9, 0.9]]),
    ],
)
def test_malformed_predictions_are_refused(labels: list[int], probs: list[list[float]]) -> None:
    with pytest.raises(ValueError):
        predictions_of(labels, probs)


def test_diverged_model_is_named_as_such() -> None:
    with pytest.raises(RakutenError, match="1 rows with NaN"):
        predictions_of([0, 1], [[0.5, 0.5], [np.nan, np.nan]])


def test_intervals_hold_the_score_and_repeat_under_a_seed() -> None:
    given = sampled(400, 10, seed=1)
    intervals, scores = bootstrap_intervals(given, 300, seed=7), score(given)
    assert list(intervals) == list(METRICS)
    assert all(low < scores[name] < high for name, (low, high) in intervals.items())
    assert bootstrap_intervals(given, 300, seed=7) == intervals
    assert bootstrap_intervals(given, 300, seed=8) != intervals
    assert bootstrap_intervals(given, 0, seed=7) == {}


def test_interval_width_is_that_of_the_binomial_for_accuracy() -> None:
    given = sampled(2000, 5, seed=2)
    low, high = bootstrap_intervals(given, 2000, seed=0)["accuracy"]
    accuracy = score(given)["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / 2000), rel=0.1)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = score(calibrated(300_000, seed=0, overconfidence=2.0))
    covered = dict.fromkeys(METRICS, 0)
    for seed in range(1, 101):
        intervals = bootstrap_intervals(calibrated(500, seed, overconfidence=2.0), 200, seed)
        for name, (low, high) in intervals.items():
            covered[name] += low <= truth[name] <= high
    # 95 % promised; 87 of 100 is 3.7 standard deviations below. top3 of four classes is all but constant.
    assert all(count >= 87 for name, count in covered.items() if name != "top3"), covered


def test_calibrated_model_has_small_ece_and_overconfident_one_large() -> None:
    assert score(calibrated(50_000, seed=0))["ece"] < 0.01
    assert score(calibrated(50_000, seed=0, overconfidence=3.0))["ece"] > 0.1


@pytest.mark.parametrize("metric", METRICS)
def test_paired_bootstrap_finds_a_planted_difference(metric: str) -> None:
    better = sampled(1500, 6, seed=3, skill=3.0)
    worse = sampled(1500, 6, seed=3, skill=2.0)
    flat = Predictions(worse.labels, 0.5 * worse.probs + 0.5 / 6, worse.rows)
    found = paired_bootstrap(better, flat, metric, num_resamples=400, seed=0)
    sign = -1 if metric in ("log_loss", "ece") else 1
    assert found.difference == pytest.approx(score(better)[metric] - score(flat)[metric])
    assert min(sign * found.low, sign * found.high) > 0
    assert found.p_value == pytest.approx(2 / 401)


def test_paired_bootstrap_seldom_finds_what_is_not_there() -> None:
    """Two models of equal skill: about one in twenty pairs may look different at the 5 % level."""
    false_alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = rng.integers(4, size=300)
        pair = []
        for _ in range(2):
            logits = rng.normal(size=(300, 4)) + 1.5 * np.eye(4)[labels]
            probs = np.exp(logits)
            pair.append(
                Predictions(labels, probs / probs.sum(axis=1, keepdims=True), np.arange(300).astype(str))
            )
        false_alarms += paired_bootstrap(*pair, num_resamples=200, seed=seed).p_value < 0.05
    assert false_alarms <= 9  # 3 expected; more than 9 has a chance below 1 in 1,000


def test_model_does_not_differ_from_itself() -> None:
    given = sampled(100, 4, seed=0)
    same = paired_bootstrap(given, given, num_resamples=50, seed=0)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_paired_bootstrap_refuses_other_rows() -> None:
    given = sampled(50, 4, seed=0)
    renamed = Predictions(given.labels, given.probs, np.arange(1, 51).astype(str))
    with pytest.raises(DataError, match="49 in common"):
        paired_bootstrap(given, renamed)
    with pytest.raises(DataError, match="same rows"):
        paired_bootstrap(given, sampled(49, 4, seed=0))
    with pytest.raises(ValueError, match="metric"):
        paired_bootstrap(given, given, metric="f1")


def test_per_class_table() -> None:
    labels = LabelSet((10, 40, "X", 60), ("Livres", "Jeux", "Épicerie", "Rien"))
    rows = per_class_table(predictions_of([0, 0, 0, 1, 2], np.eye(4)[[0, 1, 1, 1, 0]].tolist()), labels)
    assert rows[0] == {
        "code": 10,
        "name": "Livres",
        "precision": 1 / 2,
        "recall": 1 / 3,
        "f1": pytest.approx(2 / 5),
        "support": 3,
        "predicted": 2,
        "confused_with": 40,
        "confused_with_name": "Jeux",
        "confused_count": 2,
    }
    assert (rows[2]["precision"], rows[2]["recall"], rows[2]["f1"]) == (None, 0, 0)  # never predicted
    assert (rows[3]["f1"], rows[3]["support"], rows[3]["confused_with"]) == (None, 0, None)  # nowhere


def test_calibration_bins_are_those_of_the_ece() -> None:
    given = sampled(700, 5, seed=4)
    bins = calibration_bins(given)
    assert bins.counts.sum() == 700
    gaps = bins.counts * np.abs(bins.accuracy - bins.confidence)
    assert gaps.sum() / 700 == pytest.approx(score(given)["ece"])
