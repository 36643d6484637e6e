"""Has what is asked changed? What the drift job compared, found and decided last."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.panels import Query, Steps, above, dashboard, figure, lines, rows

_SEVERITY = {0: "no", 1: "warning", 2: "ALARM"}


def drift() -> Dashboard:
    """For what neither Service nor Model quality explains: the world."""
    made = dashboard(
        "rakuten-drift", "3 Drift", "Has what is asked changed from what the model was evaluated on?"
    )
    made.time("now-7d", "now")
    for part in (_decision, _tests, _accuracy):
        part(made)
    return made


def _decision(made: Dashboard) -> None:
    made.with_row(Row("What was decided?"))
    for kind, title in (("drift", "Drift"), ("collapse", "Collapse")):
        severity = Query(f'max(rakuten_drift_severity{{kind="{kind}"}})')
        text = "The job's last decision. Its rate of false alarms is bounded (conf/drift.yaml)."
        made.with_panel(figure(title, text, severity, steps=above(2, 1), runbook=kind, words=_SEVERITY))
    age = Query("time() - max(rakuten_drift_last_run_timestamp_seconds > 0)")
    text = "Since the job compared last; it is to run every day."
    made.with_panel(
        figure("Last run", text, age, unit="s", steps=above(36 * 3600, 26 * 3600), runbook="driftjobstale")
    )
    products = Query("max(rakuten_drift_window_products)")
    text = "In the window that was compared. Below 20 a test says nothing (min_products)."
    made.with_panel(figure("Products", text, products, runbook="drift"))
    drifted = Query('count(max by (test) (rakuten_drift_state{state="drift"}) == 1) or vector(0)')
    text = "Tests that found a change both significant and large enough to matter."
    made.with_panel(figure("Columns that changed", text, drifted, steps=above(1), runbook="drift"))
    silent = Query('count(max by (test) (rakuten_drift_state{state="not_enough_data"}) == 1) or vector(0)')
    text = "Tests without enough products to say anything: not the same as no change."
    made.with_panel(figure("Columns not tested", text, silent, steps=Steps(((1, "blue"),)), runbook="drift"))


def _tests(made: Dashboard) -> None:
    made.with_row(Row("What has changed, and how much?"))
    text = (
        "Corrected for the number of tests. Below 0.05 it is no accident; whether it matters says the effect."
    )
    p_value = Query("max by (test) (rakuten_drift_p_value)", "{{test}}")
    made.with_panel(
        lines(
            "p-values",
            text,
            p_value,
            steps=Steps(((0.05, "green"),), "red"),
            log=True,
            runbook="drift",
            width=12,
        )
    )
    text = "In each test's own unit. Below its least effect it is called no drift, however significant (conf/drift.yaml, effects)."
    effect = Query("max by (test) (rakuten_drift_effect)", "{{test}}")
    made.with_panel(lines("Effects", text, effect, runbook="drift", width=12))
    state = Query("max by (test, state) (rakuten_drift_state) == 1")
    made.with_panel(
        rows("State of each test", "ok, drift or not enough data.", state, runbook="drift", width=12)
    )
    decided = Query("max by (kind) (rakuten_drift_severity)", "{{kind}}")
    made.with_panel(
        lines(
            "Decisions", "0 none, 1 warning, 2 alarm.", decided, steps=above(2, 1), runbook="drift", width=12
        )
    )


def _accuracy(made: Dashboard) -> None:
    made.with_row(Row("Does it hurt?"))
    bounds = "max by (source, bound) (rakuten_accuracy"
    text = "By the model's own confidence, without a label. Trust it while confidence is calibrated."
    made.with_panel(
        lines(
            "Estimated accuracy",
            text,
            Query(bounds + '{source="estimated"})', "{{bound}}"),
            Query(bounds + '{source="reference", bound="value"})', "when evaluated"),
            unit="percentunit",
            runbook="estimatedaccuracylow",
            width=12,
        )
    )
    text = "Of products with feedback, which are not drawn at random."
    made.with_panel(
        lines(
            "True accuracy",
            text,
            Query(bounds + '{source="true"})', "{{bound}}"),
            Query(bounds + '{source="reference", bound="value"})', "when evaluated"),
            unit="percentunit",
            runbook="accuracydown",
            width=12,
        )
    )
