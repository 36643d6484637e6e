"""Does the model still answer sensibly? What it says, how sure it is, and what feedback and a challenger say of it."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.panels import VERSION, Query, above, below, dashboard, figure, lines

_RATE = "[$__rate_interval]"
_OF = '{model_version=~"$version"}'


def quality() -> Dashboard:
    """For what Service cannot see: answers in time that are wrong."""
    made = dashboard("rakuten-quality", "2 Model quality", "Answers that come in time: are they right?")
    made.with_variable(VERSION)
    for part in (_now, _answers, _right, _asked, _versions):
        part(made)
    return made


def _now(made: Dashboard) -> None:
    made.with_row(Row("Is it broken?"))
    text = "Of one worker's last 50 answers so many are of one class that chance would not do it."
    made.with_panel(
        figure(
            "Collapse",
            text,
            Query("max(rakuten_collapsed)"),
            steps=above(1),
            runbook="collapse",
            words={0: "no", 1: "COLLAPSED"},
        )
    )
    share = Query("max(rakuten_recent_top_class_share)")
    made.with_panel(
        figure("Largest class", "Of the last 50 answers.", share, unit="percentunit", runbook="collapse")
    )
    variety = Query("min(rakuten_recent_entropy_bits)")
    text = "Bits, of the last 50 answers. 0 is one class, 27 classes alike are 4.8."
    made.with_panel(figure("Variety", text, variety, runbook="lowentropy"))
    canaries = Query("min(rakuten_canary_agreement_share)")
    text = "Products of the bundle that are answered as they were when it was made."
    made.with_panel(
        figure("Canaries", text, canaries, unit="percentunit", steps=below(1), runbook="canaryfailed")
    )
    sure = Query("avg(rakuten:confidence:mean1h" + _OF + ")")
    made.with_panel(figure("Confidence", "Mean of an hour.", sure, unit="percentunit"))
    answers = Query("sum(rakuten:answers:increase1h" + _OF + ")")
    text = "Of an hour. Below 200 no alert on shares and means can fire: chance moves them too much."
    made.with_panel(figure("Answers", text, answers))


def _answers(made: Dashboard) -> None:
    made.with_row(Row("What does it say?"))
    largest = "topk(10, sum by (prdtypecode) (rakuten:predictions:increase1h" + _OF + "))"
    total = " / on () group_left () sum(rakuten:predictions:increase1h" + _OF + ")"
    made.with_panel(
        lines(
            "Ten largest classes",
            "Shares of an hour's answers.",
            Query(largest + total, "{{prdtypecode}}"),
            unit="percentunit",
            stacked=True,
            width=12,
        )
    )
    entropy = Query("rakuten:class_entropy_bits:1h" + _OF, "{{model_version}}")
    text = "Entropy of an hour's answers, in bits. The ticket comes at half of the week's mean."
    made.with_panel(lines("Variety", text, entropy, runbook="lowentropy", width=12))
    quantiles = [
        Query(
            f"histogram_quantile({q}, sum by (le, model_version) (rate(rakuten_confidence_bucket{_OF}[1h])))",
            f"{{{{model_version}}}}: {name}",
        )
        for q, name in ((0.1, "a tenth below"), (0.5, "half below"))
    ]
    made.with_panel(
        lines(
            "Confidence",
            "Mean, median and lowest tenth of an hour.",
            Query("rakuten:confidence:mean1h" + _OF, "{{model_version}}: mean"),
            *quantiles,
            unit="percentunit",
            width=12,
        )
    )
    abstained = Query("rakuten:abstention_ratio:1h" + _OF, "{{model_version}}")
    text = "Answers of an hour that are left to people (abstain_below)."
    made.with_panel(
        lines("Abstentions", text, abstained, unit="percentunit", runbook="abstentionshigh", width=12)
    )


def _right(made: Dashboard) -> None:
    made.with_row(Row("Is it right?"))
    text = "Of answers that somebody said something about. People report mistakes: compare it with its own past only."
    by_version = Query("rakuten:feedback_accuracy_by_version:ratio1d" + _OF, "{{model_version}}")
    made.with_panel(
        lines(
            "Right by feedback, a day",
            text,
            by_version,
            Query("rakuten:feedback_accuracy:ratio7d_before", "the week before, all versions"),
            unit="percentunit",
            runbook="accuracydown",
        )
    )
    said = Query(f"sum by (correct) (increase(rakuten_feedback_total{_OF}[1h]))", "{{correct}}")
    text = "Of an hour. unknown: of a prediction that nobody remembers."
    made.with_panel(lines("Feedback", text, said, runbook="accuracydown"))
    text = "Two models that are both right in 88 of 100 differ in 24 at most."
    differs = Query("rakuten:shadow_disagreement:ratio1h", "challenger {{shadow_version}}")
    made.with_panel(
        lines(
            "The challenger disagrees",
            text,
            differs,
            unit="percentunit",
            steps=above(0.25),
            runbook="shadowdisagrees",
        )
    )


def _asked(made: Dashboard) -> None:
    made.with_row(Row("What is it asked?"))
    missing = Query("rakuten:missing_share:1h", "no {{modality}}")
    text = "Of an hour's products. In the real catalogue a third has no description."
    made.with_panel(lines("Missing", text, missing, unit="percentunit", runbook="modalitymissing"))
    lengths = [
        Query(
            f"histogram_quantile({q}, sum by (le) (rate(rakuten_text_len_chars_bucket{_RATE})))",
            f"{q:.0%} below",
        )
        for q in (0.1, 0.5, 0.9)
    ]
    made.with_panel(lines("Characters of a text", "After cleaning.", *lengths))
    failed = Query(f"sum(rate(rakuten_images_failed_total{_RATE}))", "photos")
    made.with_panel(
        lines("Photos that cannot be read", "A sender that changed its format.", failed, unit="cps")
    )


def _versions(made: Dashboard) -> None:
    made.with_row(Row("Which model is it?"))
    workers = Query("sum by (model_version) (rakuten_model_info)", "{{model_version}}")
    made.with_panel(
        lines(
            "Workers by version",
            "One version at a time, but for the time of a swap.",
            workers,
            stacked=True,
            runbook="versionsdiffer",
        )
    )
    swaps = Query("sum by (outcome) (rakuten_model_swaps_total)", "{{outcome}}")
    text = "Since the service began, over all workers. Each champion counts once a worker."
    made.with_panel(lines("Swaps", text, swaps, runbook="swaprefused"))
    load = "sum(rate(rakuten_model_load_seconds_sum[1h])) / (sum(rate(rakuten_model_load_seconds_count[1h])) > 0)"
    made.with_panel(
        lines(
            "Time to load",
            "From a bundle on disk to a model that is warm: the last hour's mean, or all there were.",
            Query(
                f"{load} or sum(rakuten_model_load_seconds_sum) / sum(rakuten_model_load_seconds_count)",
                "mean",
            ),
            unit="s",
        )
    )
