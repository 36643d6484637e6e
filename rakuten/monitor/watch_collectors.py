"""What Prometheus scrapes of the log, of the model that is served and of what watches it. The door is `rakuten.monitor.metrics`."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rakuten.monitor.collapse import Collapse
from rakuten.monitor.delivery import LogCounts
from rakuten.monitor.findings import Finding

LOADS_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
STATES: Final = ("ok", "drift", "not_enough_data")  # of a drift test
KINDS: Final = ("none", "drift", "collapse", "not_enough_data")  # of a drift decision
SEVERITIES: Final = ("none", "warning", "alarm")  # as numbers: 0, 1, 2


class LogMetrics:
    """The inference log's `LogCounts`: give it to `InferenceLog` as `reporter`."""

    _COUNTERS: Final = {
        "accepted": "Records taken into memory.",
        "dropped": "Records there was no room for.",
        "acknowledged": "Records in a journal on the disk, or in the database.",
        "delivered": "Records in the database.",
        "refused": "Records that are damaged or that the database does not take.",
        "failed_batches": "Tries to reach the database that failed.",
    }

    def __init__(self, registry: CollectorRegistry):
        self._counters = {
            name: Counter(f"rakuten_log_{name}_total", text, registry=registry)
            for name, text in self._COUNTERS.items()
        }
        self._shown = dict.fromkeys(self._COUNTERS, 0)
        modes: dict[str, tuple[Literal["livesum", "livemax", "livemin"], str]] = {
            "backlog": ("livesum", "Records in memory alone, of all workers."),
            "spool_bytes": ("livemax", "Journals on the disk, of all workers."),
            "database_up": ("livemin", "1 where the last try of every worker reached the database."),
        }
        self._gauges = {
            name: Gauge(f"rakuten_log_{name}", text, registry=registry, multiprocess_mode=mode)
            for name, (mode, text) in modes.items()
        }

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
        self._load = Histogram(
            "rakuten_model_load_seconds",
            "From a bundle on disk to a model that is warm.",
            buckets=LOADS_S,
            registry=registry,
        )
        self._swaps = Counter(
            "rakuten_model_swaps_total",
            "New champions: outcome is swapped or refused.",
            ["outcome"],
            registry=registry,
        )
        self._info = _gauge(
            "model_info", "Workers that answer with this version.", registry, "livesum", "model_version"
        )
        self._ready = _gauge("ready_workers", "Workers that can answer.", registry, "livesum")
        self._collapsed = _gauge(
            "collapsed", "1 where some worker's last answers are of one class.", registry, "livemax"
        )
        self._top_share = _gauge(
            "recent_top_class_share", "Of the last answers, the largest of all workers.", registry, "livemax"
        )
        self._entropy = _gauge(
            "recent_entropy_bits", "Of the last answers, the least of all workers.", registry, "livemin"
        )
        self._canaries = _gauge(
            "canary_agreement_share",
            "Canary products answered as when they were recorded, the least of all workers.",
            registry,
            "livemin",
        )
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

    def refused(self) -> None:
        """A bundle was not taken: the one before goes on."""
        self._swaps.labels("refused").inc()

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
        recent: Literal["livemostrecent"] = "livemostrecent"
        self._p_value = _gauge(
            "drift_p_value", "Of a test, corrected for the others.", registry, recent, "test"
        )
        self._effect = _gauge(
            "drift_effect", "Size of the change, in the test's unit.", registry, recent, "test"
        )
        self._state = _gauge("drift_state", "1 for the state of a test.", registry, recent, "test", "state")
        self._severity = _gauge(
            "drift_severity", "Of the decision by kind: 0 none, 1 warning, 2 alarm.", registry, recent, "kind"
        )
        self._products = _gauge("drift_window_products", "Products compared.", registry, recent)
        self._last_run = _gauge("drift_last_run_timestamp_seconds", "When it was compared.", registry, recent)
        self._accuracy = _gauge(
            "accuracy",
            "Share of right answers: source is reference, estimated or true; bound is value, low or high.",
            registry,
            recent,
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


_Mode = Literal["livesum", "livemax", "livemin", "livemostrecent"]
_NONE: Final = float("nan")  # a gauge cannot be taken back, and an old figure would pass for a new one


def _gauge(name: str, text: str, registry: CollectorRegistry, mode: _Mode, *labels: str) -> Gauge:
    return Gauge(f"rakuten_{name}", text, labels, registry=registry, multiprocess_mode=mode)
