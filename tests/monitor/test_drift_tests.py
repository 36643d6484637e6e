"""The two-sample tests by themselves: p-values that hold, effects that are what they are called."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rakuten.monitor.drift.hypothesis_tests import compare_categories, compare_embeddings, compare_numbers
from rakuten.monitor.drift.permutation import holm, p_value, relabellings
from tests.monitor.drift_data import SHARES, drift_config

CONFIG = drift_config(max_draws=20_000, exceedances=200)
QUICK = drift_config(max_draws=1_000)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_p_value_is_the_share_of_draws_that_reach_the_observed() -> None:
    rng = generator()
    found = p_value(
        2.5, lambda num: rng.integers(0, 4, num).astype(float), max_draws=100_000, exceedances=2_000
    )
    assert found == pytest.approx(1 / 4, rel=0.1)


def test_a_statistic_that_no_draw_reaches_has_the_smallest_p_value() -> None:
    rng = generator()
    assert p_value(9.0, rng.random, max_draws=999, exceedances=25) == 1 / 1000


def test_draws_that_equal_the_observed_but_for_rounding_reach_it() -> None:
    assert p_value(0.1 + 0.2, lambda num: np.full(num, 0.3), max_draws=999, exceedances=25) == 1


def test_drawing_stops_when_it_is_clear_that_nothing_is_wrong() -> None:
    drawn = []

    def draw(num: int) -> np.ndarray:
        drawn.append(num)
        return np.ones(num)

    assert p_value(1.0, draw, max_draws=50_000, exceedances=25) == 1
    assert sum(drawn) < 100


def test_sequential_p_values_are_no_smaller_than_they_may_be() -> None:
    """P(p <= a) <= a, also for the few draws of a small `max_draws` and a statistic with many ties."""
    rng = generator(5)
    num = 4_000
    found = np.array(
        [
            p_value(
                float(rng.integers(0, 30)),
                lambda k: rng.integers(0, 30, k).astype(float),
                max_draws=99,
                exceedances=5,
            )
            for _ in range(num)
        ]
    )
    for level in (0.01, 0.05, 0.2, 0.5):
        assert (found <= level).sum() <= stats.binom.ppf(0.999, num, level)
    assert (found <= 0.2).mean() > 0.1  # nor are they idly large


def test_holm_by_hand() -> None:
    p = np.array([0.04, 0.01, 0.03])
    assert holm(p, np.ones(3), 3) == pytest.approx([0.06, 0.03, 0.06])
    assert holm(p, np.ones(3), 4) == pytest.approx([0.09, 0.04, 0.09])  # one more had no data
    assert holm(np.array([0.02, 0.02]), np.array([3.0, 1.0]), 4) == pytest.approx(
        [0.02 * 4 / 3, 0.02 * 4 / 3]
    )


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12), st.data())
def test_holm_rejects_first_what_bonferroni_rejects(p_values: list[float], data: st.DataObject) -> None:
    weights = np.array(data.draw(st.lists(st.floats(0.5, 8), min_size=len(p_values), max_size=len(p_values))))
    p = np.array(p_values)
    adjusted = holm(p, weights, float(weights.sum()))
    bonferroni = np.minimum(1, p / weights * weights.sum())
    assert (adjusted <= bonferroni + 1e-12).all()
    assert adjusted.min() == pytest.approx(bonferroni.min())
    assert (adjusted >= p - 1e-12).all()


def test_relabellings_choose_every_row_alike() -> None:
    masks = relabellings(4_000, 3, 12, generator())
    assert (masks.sum(axis=1) == 3).all()
    assert masks.mean(axis=0) == pytest.approx(np.full(12, 0.25), abs=0.03)


@pytest.mark.parametrize(
    ("window", "reference"), [((9, 31), (40, 60)), ((0, 12), (5, 195)), ((200, 800), (9, 11))]
)
def test_two_categories_agree_with_fisher(window: tuple[int, int], reference: tuple[int, int]) -> None:
    """The p-value lies between Fisher's one-sided one and twice the smaller tail."""
    found = compare_categories(np.array(window), np.array(reference), CONFIG, generator()).p_value
    table = [list(window), list(reference)]
    smaller = min(stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater"))
    assert 0.8 * smaller <= found <= 1.25 * 2 * smaller


def test_many_categories_agree_with_the_chi_square_of_large_counts() -> None:
    rng = generator(3)
    window, reference = (
        rng.multinomial(2_000, SHARES[::-1]),
        rng.multinomial(3_000, SHARES[::-1] + np.array([0.02, 0, 0, 0, 0, -0.02])),
    )
    found = compare_categories(window, reference, CONFIG, generator())
    chi = stats.chi2_contingency([window, reference])
    assert found.p_value == pytest.approx(chi.pvalue, abs=0.02, rel=2)
    pooled = (window + reference) / 5_000
    w = np.sqrt(((window / 2_000 - reference / 3_000) ** 2 / pooled).sum())
    assert 0 <= found.effect <= w  # corrected for what chance alone makes


def test_one_class_that_grows_is_seen_where_the_sum_over_all_is_not_enough() -> None:
    """Pearson's sum is spread thin over 26 degrees of freedom."""
    rng = generator(4)
    share = np.array([*np.full(26, 0.9 / 26), 0.1])
    moved = 0.9 * share + 0.1 * np.eye(27)[26]
    found, pearson = [], []
    for _ in range(60):
        window, reference = rng.multinomial(300, moved), rng.multinomial(1_500, share)
        found.append(compare_categories(window, reference, QUICK, rng).p_value)
        pearson.append(stats.chi2_contingency([window, reference]).pvalue)
    assert np.mean(np.array(found) <= 0.005) > np.mean(np.array(pearson) <= 0.005) + 0.15


def test_an_effect_of_categories_does_not_depend_on_how_many_products_there_are() -> None:
    rng = generator(6)
    moved = SHARES + np.array([-0.1, 0, 0, 0, 0.1, 0])
    effects = {
        n: np.mean(
            [
                compare_categories(
                    rng.multinomial(n, moved), rng.multinomial(2_000, SHARES), QUICK, rng
                ).effect
                for _ in range(40)
            ]
        )
        for n in (200, 4_000)
    }
    assert effects[200] == pytest.approx(effects[4_000], abs=0.05)


def test_the_effect_of_numbers_is_the_kolmogorov_smirnov_distance() -> None:
    rng = generator(7)
    window, reference = rng.integers(0, 20, 200).astype(float), rng.integers(3, 25, 500).astype(float)
    expected = stats.ks_2samp(window, reference).statistic
    assert compare_numbers(window, reference, QUICK, rng).effect == pytest.approx(expected)
    # Of continuous numbers it is read at 32 places.
    window, reference = rng.normal(size=800), rng.normal(0.7, 1, 900)
    expected = stats.ks_2samp(window, reference).statistic
    assert expected - 1 / 32 <= compare_numbers(window, reference, QUICK, rng).effect <= expected + 1e-9


@pytest.mark.filterwarnings("ignore:Parameter `variant`:UserWarning")
def test_numbers_agree_with_anderson_and_darling() -> None:
    rng = generator(8)
    window, reference = rng.normal(0.18, 1, 150), rng.normal(size=400)
    theirs = stats.anderson_ksamp(
        [window, reference], method=stats.PermutationMethod(n_resamples=4_000, rng=generator())
    ).pvalue
    assert compare_numbers(window, reference, CONFIG, generator()).p_value == pytest.approx(theirs, abs=0.02)


@pytest.mark.parametrize("n", [20, 200, 3_000])
def test_columns_of_one_kind_are_called_different_no_more_often_than_said(n: int) -> None:
    """Each of the three, at sizes below and above the reference's: skewed, tied, and with rare categories."""
    rng = generator(n)
    num = 300
    counts = [
        compare_categories(rng.multinomial(n, SHARES), rng.multinomial(400, SHARES), QUICK, rng).p_value
        for _ in range(num)
    ]
    numbers = [
        compare_numbers(
            rng.poisson(0.4, n).astype(float), rng.poisson(0.4, 400).astype(float), QUICK, rng
        ).p_value
        for _ in range(num)
    ]
    vectors = [
        compare_embeddings(
            rng.exponential(size=(n, 5)),
            rng.exponential(size=(400, 5)),
            drift_config(max_embeddings=200),
            rng,
        ).p_value
        for _ in range(num // 3)
    ]
    for found in (counts, numbers, vectors):
        for level in (0.05, 0.2):
            assert (np.array(found) <= level).sum() <= stats.binom.ppf(0.9999, len(found), level)


def test_embeddings_that_moved_are_told_by_their_mean_and_by_their_spread() -> None:
    rng = generator(9)
    reference = rng.normal(size=(600, 16))
    moved = compare_embeddings(rng.normal(size=(200, 16)) + 0.4, reference, QUICK, rng)
    wider = compare_embeddings(rng.normal(size=(200, 16)) * 1.5, reference, QUICK, rng)
    same = compare_embeddings(rng.normal(size=(200, 16)), reference, QUICK, rng)
    assert moved.p_value <= 0.01
    assert wider.p_value <= 0.01
    assert same.p_value > 0.01
    assert moved.effect > 0.2 > same.effect


def test_what_is_the_same_for_all_products_cannot_differ() -> None:
    rng = generator()
    assert compare_categories(np.array([30, 0]), np.array([90, 0]), QUICK, rng).degenerate
    assert compare_numbers(np.ones(30), np.ones(90), QUICK, rng).degenerate
    assert compare_embeddings(np.ones((30, 4)), np.ones((90, 4)), QUICK, rng).degenerate
