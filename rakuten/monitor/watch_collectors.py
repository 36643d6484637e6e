"""What Prometheus scrapes of the log, of the model that is served and of what watches it. The door is `rakuten.monitor.metrics`."""

from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry

from rakuten.monitor.collapse import Collapse
from rakuten.monitor.collectors import makers
from rakuten.monitor.delivery import LogCounts
from rakuten.monitor.findings import Finding

LOADS_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
STATES: Final = ("ok", "drift", "not_enough_data")  # of a drift test
KINDS: Final = ("none", "drift", "collapse", "not_enough_data")  # of a drift decision
_NONE: Final = float("nan")  # a gauge cannot be taken back, and an old figure would pass for a new one
RECENT: Final = "livemostrecent"
SEVERITIES: Final = ("none", "warning", "alarm")  # as numbers: 0, 1, 2


class LogMetrics:
    """The inference log's `LogCounts`."""

    def __init__(self, registry: CollectorRegistry):
        counter, _, gauge = makers(registry)
        self._counters = {
            "accepted": counter("log_accepted_total", "Records taken into memory."),
            "dropped": counter(
                "log_dropped_total", "Records there was no room for, or that could not be made."
            ),
            "acknowledged": counter("log_acknowledged_total", "Records on the disk or in the database."),
            "delivered": counter("log_delivered_total", "Records in the database."),
            "refused": counter("log_refused_total", "Records damaged or not taken by the database."),
            "failed_batches": counter("log_failed_batches_total", "Tries to reach the database that failed."),
        }
        self._gauges = {
            "backlog": gauge("log_backlog", "Records in memory alone, of all workers.", "livesum"),
            "spool_bytes": gauge("log_spool_bytes", "Journals on the disk, of all workers.", "livemax"),
            "database_up": gauge("log_database_up", "0 where some worker's last try failed.", "livemin"),
        }
        self._shown = dict.fromkeys(self._counters, 0)

    def update(self, counts: LogCounts) -> None:
        for name, counter in self._counters.items():
            now = getattr(counts, name)
            counter.inc(now - self._shown[name])
            self._shown[name] = now
        for name, gauge in self._gauges.items():
            gauge.set(getattr(counts, name))


class ModelMetrics:
    """The model in memory: loads, swaps, readiness, collapse."""

    def __init__(self, registry: CollectorRegistry):
        counter, histogram, gauge = makers(registry)
        self._load = histogram("model_load_seconds", "From a bundle on disk to a warm model.", LOADS_S)
        self._swaps = counter("model_swaps_total", "New champions: swapped or refused.", "outcome")
        for outcome in ("swapped", "refused"):  # a series that begins at 1 has not increased for Prometheus
            self._swaps.labels(outcome)
        self._refused = gauge("champion_refused", "1: some worker did not take the newest one.", "livemax")
        self._info = gauge("model_info", "Workers that answer with a version.", "livesum", "model_version")
        self._ready = gauge("ready_workers", "Workers that can answer.", "livesum")
        self._collapsed = gauge("collapsed", "1: some worker's last answers are of one class.", "livemax")
        self._top_share = gauge(
            "recent_top_class_share", "Of the last answers, of the worst worker.", "livemax"
        )
        self._entropy = gauge("recent_entropy_bits", "Of the last answers, of the worst worker.", "livemin")
        self._canaries = gauge(
            "canary_agreement_share", "Canaries answered as when recorded, by the worst worker.", "livemin"
        )
        self._canaries.set(_NONE)  # until somebody has asked
        self._version: str | None = None

    def ready(self, is_ready: bool) -> None:
        self._ready.set(is_ready)

    def serves(self, version: str, load_s: float) -> None:
        """A model has taken over, `load_s` after its bundle was opened."""
        self._load.observe(load_s)
        if self._version is not None:
            self._swaps.labels("swapped").inc()
            self._info.labels(self._version).set(0)  # several processes cannot take a label back
        self._version = version
        self._info.labels(version).set(1)
        self._ready.set(1)  # nobody need have asked yet
        self._refused.set(0)
        self._collapsed.set(0)  # said of the one before

    def refused(self) -> None:
        """A bundle was not taken: the one before goes on."""
        self._swaps.labels("refused").inc()
        self._refused.set(1)

    def answers(self, collapse: Collapse) -> None:
        """What the last answers look like."""
        self._collapsed.set(collapse.collapsed)
        self._top_share.set(collapse.top_share)
        self._entropy.set(collapse.entropy_bits)

    def canaries(self, agreement_share: float) -> None:
        self._canaries.set(agreement_share)


class DriftMetrics:
    """The newest drift report and decision, as the log's database has them."""

    def __init__(self, registry: CollectorRegistry):
        _, _, gauge = makers(registry)
        self._p_value = gauge("drift_p_value", "Of a test, corrected for the others.", RECENT, "test")
        self._effect = gauge("drift_effect", "Size of the change, in the test's unit.", RECENT, "test")
        self._state = gauge("drift_state", "1 for the state that a test is in.", RECENT, "test", "state")
        self._severity = gauge(
            "drift_severity", "Of the decision by kind: 0 none, 1 warning, 2 alarm.", RECENT, "kind"
        )
        self._products = gauge("drift_window_products", "Products compared.", RECENT)
        self._last_run = gauge("drift_last_run_timestamp_seconds", "When they were compared.", RECENT)
        self._accuracy = gauge(
            "accuracy",
            "Right answers: source is reference, estimated or true; bound is value, low or high.",
            RECENT,
            "source",
            "bound",
        )

    def update(self, finding: Finding) -> None:
        """Show `{"report": DriftReport, "decision": Decision}` as their `to_json` give them."""
        report, decision = finding.body["report"], finding.body["decision"]
        self._last_run.set(finding.at)
        self._products.set(report["n"])
        for result in report["results"]:
            self._result(result)
        for kind in KINDS:
            is_it = decision["kind"] == kind
            self._severity.labels(kind).set(SEVERITIES.index(decision["severity"]) if is_it else 0)
        self._accuracy.labels("reference", "value").set(report["reference_accuracy"])
        for source in ("estimated", "true"):
            interval = report[f"{source}_accuracy"] or {}
            for bound in ("value", "low", "high"):
                self._accuracy.labels(source, bound).set(interval.get(bound, _NONE))

    def _result(self, result: Mapping[str, Any]) -> None:
        test = result["name"]
        for state in STATES:
            self._state.labels(test, state).set(result["state"] == state)
        for gauge, value in ((self._p_value, result["p_adjusted"]), (self._effect, result["effect"])):
            gauge.labels(test).set(_NONE if value is None else value)
