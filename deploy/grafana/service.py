"""Is the service well? If not: is it away, failing, slow or flooded, and since which version?"""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.panels import Query, above, below, dashboard, figure, lines, rows

_RATE = "[$__rate_interval]"


def service() -> Dashboard:
    """Where the person on call looks first."""
    made = dashboard(
        "rakuten-service", "1 Service", "Where to look first: is it away, failing, slow or flooded?"
    )
    for part in (_now, _failing, _slow, _log, _watch):
        part(made)
    return made


def _now(made: Dashboard) -> None:
    made.with_row(Row("Is it well?"))
    firing = Query('count(ALERTS{alertstate="firing"}) or vector(0)')
    made.with_panel(figure("Alerts", "That fire now.", firing, steps=above(1), runbook="where-to-look-first"))
    workers = Query("sum(rakuten_ready_workers) or vector(0)")
    made.with_panel(
        figure(
            "Ready workers", "0: every answer is a 503.", workers, steps=below(1), runbook="servicenotready"
        )
    )
    month = Query("rakuten:availability:ratio30d")
    text = "Requests of 30 days without a 5xx. The objective is 99.5 %: below it the budget is spent."
    made.with_panel(figure("Availability", text, month, unit="percentunit", steps=below(0.995)))
    errors = Query("rakuten:error_ratio:rate5m")
    text = "Of five minutes. At 7.2 % the month's budget is gone in two days: that pages, if it lasts."
    made.with_panel(
        figure(
            "Failing",
            text,
            errors,
            unit="percentunit",
            steps=above(0.072, 0.005),
            runbook="errorbudgetburnfast",
        )
    )
    slow = Query('rakuten:latency_seconds:quantile5m{quantile="0.99"}')
    text = "Of a hundred answers the slowest but one. The target is latency_target_ms, 0.5 s."
    made.with_panel(figure("p99", text, slow, unit="s", steps=above(0.5, 0.25), runbook="latencyhigh"))
    versions = Query("sum by (model_version) (rakuten_model_info) > 0", "{{model_version}}")
    text = "More than one for longer than a swap: some worker stays behind."
    made.with_panel(figure("Versions", text, versions, names=True, runbook="versionsdiffer"))


def _failing(made: Dashboard) -> None:
    made.with_row(Row("Does it fail?"))
    text = "That users wait for: predictions and feedback. 5xx is ours, 4xx the client's."
    made.with_panel(
        lines(
            "Requests",
            text,
            Query("rakuten:requests:rate5m_by_status", "{{status}}"),
            unit="reqps",
            stacked=True,
        )
    )
    text = "By kind; /docs/problems says what each means. Items of a batch count one by one."
    made.with_panel(
        lines(
            "Problems", text, Query("rakuten:problems:rate5m", "{{kind}}"), unit="reqps", runbook="overloaded"
        )
    )
    text = "1 spends the month's budget in a month. The page comes at 14.4 of an hour and of five minutes, the ticket at 3."
    made.with_panel(
        lines(
            "Pace of the error budget",
            text,
            Query("rakuten:error_ratio:rate5m / 0.005", "5 minutes"),
            Query("rakuten:error_ratio:rate1h / 0.005", "1 hour"),
            Query("rakuten:error_ratio:rate2h / 0.005", "2 hours"),
            steps=above(14.4, 3),
            runbook="errorbudgetburnfast",
        )
    )
    text = "Over a key's rate, and over what a request may be (conf/serve.yaml, limits)."
    made.with_panel(
        lines(
            "Turned away",
            text,
            Query(f"sum by (key_name) (rate(rakuten_rate_limited_total{_RATE}))", "rate of {{key_name}}"),
            Query(f"sum by (limit) (rate(rakuten_rejected_total{_RATE}))", "{{limit}}"),
            unit="reqps",
            runbook="ratelimited",
            width=12,
        )
    )
    by_route = Query(f"sum by (route) (rate(rakuten_http_requests_total{_RATE}))", "{{route}}")
    made.with_panel(lines("Routes", "Everything that is asked.", by_route, unit="reqps", width=12))


def _slow(made: Dashboard) -> None:
    made.with_row(Row("Is it slow, and where?"))
    made.with_panel(
        lines(
            "Time to an answer",
            "Half, 95 and 99 of a hundred are faster. The target is 0.5 s.",
            Query("rakuten:latency_seconds:quantile5m", "p {{quantile}}"),
            unit="s",
            steps=above(0.5),
            runbook="latencyhigh",
        )
    )
    text = "queue: too much comes. decode: large photos. model: long texts, or too few threads."
    phases = Query('rakuten:phase_latency_seconds:quantile5m{quantile="0.95"}', "{{phase}}")
    made.with_panel(lines("Phases, p95", text, phases, unit="s", runbook="latencyhigh"))
    made.with_panel(
        lines(
            "Waiting",
            "Products that wait for the model, and requests being answered. A full batch is 64.",
            Query("rakuten:queue_products:sum", "products in the queue"),
            Query("sum(rakuten_requests_in_flight)", "requests in flight"),
            steps=above(64),
            runbook="queuegrowing",
        )
    )
    mean = f"sum(rate(rakuten_batch_products_sum{_RATE})) / sum(rate(rakuten_batch_products_count{_RATE}))"
    made.with_panel(
        lines("Products of a batch", "Few under load: batches are not formed.", Query(mean, "mean"))
    )
    made.with_panel(
        lines(
            "Waste and luck",
            "Tokens that are padding, and answers that were known already.",
            Query("rakuten:padding_share:rate5m", "padding"),
            Query("rakuten:cache_hit_ratio:rate5m", "cache hits"),
            unit="percentunit",
        )
    )
    routes = Query(
        f"histogram_quantile(0.99, sum by (le, route) (rate(rakuten_http_request_seconds_bucket{_RATE})))",
        "{{route}}",
    )
    made.with_panel(lines("Requests, p99", "First byte to last, with slow clients in it.", routes, unit="s"))


def _log(made: Dashboard) -> None:
    made.with_row(Row("Is what it answers kept?"))
    made.with_panel(
        lines(
            "Inference log",
            "Taken, safe on a disk, and in the database: all three run together.",
            Query(f"sum(rate(rakuten_log_accepted_total{_RATE}))", "taken"),
            Query(f"sum(rate(rakuten_log_acknowledged_total{_RATE}))", "safe"),
            Query(f"sum(rate(rakuten_log_delivered_total{_RATE}))", "in the database"),
            unit="cps",
            runbook="logbacklog",
        )
    )
    made.with_panel(
        lines(
            "Journals",
            "Wait for the database; the alert comes at 128 MiB, records are lost at 512.",
            Query("max(rakuten_log_spool_bytes)", "on the disk"),
            unit="bytes",
            steps=above(512 * 2**20, 128 * 2**20),
            runbook="logbacklog",
        )
    )
    lost = f"sum(rate(rakuten_log_dropped_total{_RATE})) + sum(rate(rakuten_log_refused_total{_RATE}))"
    made.with_panel(
        lines(
            "Lost",
            "Records without room or that no database takes, and tries that failed.",
            Query(lost, "lost"),
            Query(f"sum(rate(rakuten_log_failed_batches_total{_RATE}))", "failed tries"),
            unit="cps",
            runbook="loglosing",
        )
    )


def _watch(made: Dashboard) -> None:
    made.with_row(Row("Who says so?"))
    made.with_panel(rows("Targets", "1: answers Prometheus.", Query("up"), runbook="targetmissing", width=12))
    text = "The same as on alertmanager's page; a silence hides it there, not here."
    fired = Query('count by (alertname, severity) (ALERTS{alertstate=~"pending|firing"})')
    made.with_panel(rows("Alerts, pending too", text, fired, runbook="where-to-look-first", width=12))
