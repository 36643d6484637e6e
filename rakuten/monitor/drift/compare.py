"""A window against the reference: every column tested, corrected for many tests, told in words."""

import numpy as np

from rakuten.config.monitoring import DriftConfig
from rakuten.model.reference import Observations, Reference
from rakuten.monitor.drift.accuracy import estimated_accuracy, true_accuracy
from rakuten.monitor.drift.checks import EFFECT_NAMES, Check, check, least_effect
from rakuten.monitor.drift.explain import describe, examples
from rakuten.monitor.drift.label_shift import estimate_shares
from rakuten.monitor.drift.report import DriftReport, ShareEstimate, State, TestResult


def compare(reference: Reference, window: Observations, config: DriftConfig) -> DriftReport:
    """The report of `window`; the same arguments give the same report, whatever ran before.

    Of all tests of a window without drift, one or more say "drift" with a chance of at most `config.window_alpha`: over
    the draw of window and reference, at any size of either, however the tests depend on one another. Products are taken
    to come independently; a shop that sends one product many times has drifted.
    """
    seen = reference.seen
    enough = len(window) >= config.min_products
    return DriftReport(
        n=len(window),
        n_reference=len(seen),
        results=tuple(_result(each, reference, window, config) for each in check(seen, window, config)),
        label_shift=tuple(_label_shift(reference, window, config)) if enough else (),
        estimated_accuracy=estimated_accuracy(seen, window, config.interval) if enough else None,
        reference_accuracy=float((seen.predicted == seen.labels).mean()),
        true_accuracy=true_accuracy(window, config.interval),
        num_feedback=int((window.labels >= 0).sum()),
        alpha=config.window_alpha,
        seed=config.seed,
    )


def _label_shift(reference: Reference, window: Observations, config: DriftConfig) -> list[ShareEstimate]:
    return estimate_shares(
        reference.seen,
        window,
        reference.codes,
        level=config.interval,
        num_resamples=config.num_resamples,
        rng=np.random.default_rng(config.seed),
    )


def _result(each: Check, reference: Reference, window: Observations, config: DriftConfig) -> TestResult:
    column, outcome = each.column, each.outcome
    state: State = "ok"
    if outcome is None:
        state = "not_enough_data"
    elif each.significant(config.window_alpha) and each.matters(config):
        state = "drift"
    if outcome is None:
        text = (
            f"{len(column.window)} products of the window and {len(column.reference)} of the reference have it;"
            f" {config.min_products} of each are needed"
        )
    else:
        text = describe(column, reference.codes) if state == "drift" else "within what chance gives"
    return TestResult(
        name=column.name,
        state=state,
        n=len(column.window),
        n_reference=len(column.reference),
        n_needed=config.min_products,
        p_value=None if outcome is None else outcome.p_value,
        p_adjusted=each.p_adjusted,
        effect=None if outcome is None else outcome.effect,
        effect_name=EFFECT_NAMES[column.kind],
        least_effect=least_effect(column.kind, config),
        text=text,
        examples=examples(column, window, config.num_examples) if state == "drift" else (),
    )
