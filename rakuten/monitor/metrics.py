"""What Prometheus scrapes of the service, in one place: names, labels, buckets.

Three names, and what they mean, are older than this project: `rakuten_predictions_total`,
`rakuten_prediction_latency_seconds` and `rakuten_text_len_chars`. The first has the label `model_version` beside
`prdtypecode`: `sum by (prdtypecode) (rakuten_predictions_total)` is what it was.

Many workers answer a scrape together (`PROMETHEUS_MULTIPROC_DIR`, set before prometheus_client is imported): counters
and histograms are sums over all workers, also those that have ended; each gauge's help says what of the workers it is.
Labels take few values: routes, kinds and versions, never what a client chose.
"""

import os
from functools import cache
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import mark_process_dead

from rakuten.monitor.collectors import BatchMetrics, PredictionMetrics, RequestMetrics
from rakuten.monitor.delivery import LogCounts
from rakuten.monitor.findings import DRIFT, Finding
from rakuten.monitor.watch_collectors import DriftMetrics, LogMetrics, ModelMetrics


class Metrics:
    """All collectors of one process. Give it to `InferenceLog` as `reporter`, too."""

    def __init__(self, registry: CollectorRegistry):
        self.requests = RequestMetrics(registry)
        self.predictions = PredictionMetrics(registry)
        self.batches = BatchMetrics(registry)
        self.model = ModelMetrics(registry)
        self._log = LogMetrics(registry)
        self._drift = DriftMetrics(registry)

    def update(self, counts: LogCounts) -> None:
        self._log.update(counts)

    def found(self, finding: Finding) -> None:
        if finding.name == DRIFT:
            self._drift.update(finding)


@cache
def metrics() -> Metrics:
    """This process's collectors, in the registry that its `/metrics` shows."""
    return Metrics(REGISTRY)


def forget_dead_workers() -> None:
    """Take the gauges of processes that are gone out of the scrape; for a worker that starts, its predecessor killed."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdecimal() and not _is_alive(int(pid)):
            mark_process_dead(int(pid), folder)  # type: ignore[no-untyped-call]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
