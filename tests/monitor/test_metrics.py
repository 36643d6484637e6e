"""What a scrape shows, of one process and of many."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rakuten.monitor.collapse import Collapse
from rakuten.monitor.database import Database
from rakuten.monitor.delivery import LogCounts
from rakuten.monitor.findings import DRIFT, Finding, found, publish
from rakuten.monitor.log import InferenceLog
from rakuten.monitor.metrics import Metrics
from tests.monitor.records import record, statistics
from tests.monitor.test_log import until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

REPORT = {
    "n": 320,
    "reference_accuracy": 0.9,
    "estimated_accuracy": {"value": 0.85, "low": 0.8, "high": 0.88},
    "true_accuracy": None,
    "results": [
        {"name": "classes", "state": "drift", "p_adjusted": 0.0004, "effect": 0.31},
        {"name": "oov_share", "state": "not_enough_data", "p_adjusted": None, "effect": None},
    ],
}
DECISION = {"kind": "drift", "severity": "alarm"}


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(of: Samples, name: str, **labels: str) -> float:
    return of[f"rakuten_{name}", frozenset(labels.items())]


def scrape(metrics_registry: CollectorRegistry) -> Samples:
    return samples(generate_latest(metrics_registry).decode())


def test_the_three_old_names_mean_what_they_meant() -> None:
    registry = CollectorRegistry()
    collected = Metrics(registry)
    for code, version in ((10, "1"), (10, "2"), (2403, "2")):
        collected.predictions.observe(
            record(
                code=code,
                model_version=version,
                total_ms=12.0,
                statistics=statistics(title_chars=40, description_chars=300),
            )
        )
    shown = scrape(registry)
    of_10 = [
        each for (name, labels), each in shown.items()
        if name == "rakuten_predictions_total" and ("prdtypecode", "10") in labels
    ]  # fmt: skip
    assert sum(of_10) == 2
    assert value(shown, "prediction_latency_seconds_count") == 3
    assert value(shown, "prediction_latency_seconds_sum") == pytest.approx(0.036)
    assert value(shown, "text_len_chars_sum") == 3 * 340


def test_the_buckets_tell_usual_texts_and_latencies_apart() -> None:
    """Half of all texts above 350 characters, most answers between 2 ms and 100 ms."""
    registry = CollectorRegistry()
    collected = Metrics(registry)
    for chars in (45, 90, 350, 700, 2400):
        collected.predictions.observe(
            record(
                statistics=statistics(title_chars=chars, description_chars=0),
                total_ms=chars / 10,
            )
        )
    shown = scrape(registry)
    for name in ("text_len_chars", "prediction_latency_seconds"):
        bounds = {
            float(dict(labels)["le"]): each for (found, labels), each in shown.items()
            if found == f"rakuten_{name}_bucket"
        }  # fmt: skip
        cumulated = [bounds[bound] for bound in sorted(bounds)]
        steps = [now - before for before, now in zip([0, *cumulated], cumulated, strict=False)]
        assert max(steps) == 1, f"two of five in one bucket of {name}"


def test_what_an_answer_was_like() -> None:
    registry = CollectorRegistry()
    predictions = Metrics(registry).predictions
    predictions.observe(record(cached=True, abstained=True, queue_ms=None, decode_ms=None, model_ms=None))
    predictions.observe(
        record(
            code=5,
            statistics=statistics(has_image=False, image_failed=True),
            shadow_version="9",
            shadow_code=6,
            confidence=0.55,
        )
    )
    predictions.observe_feedback(10, ("7", 10))
    predictions.observe_feedback(10, ("7", "10"))
    predictions.observe_feedback(10, ("7", 40))
    predictions.observe_feedback(10, None)
    shown = scrape(registry)
    assert value(shown, "cache_requests_total", result="hit") == 1
    assert value(shown, "cache_requests_total", result="miss") == 1
    assert value(shown, "abstentions_total", model_version="7") == 1
    assert value(shown, "missing_modality_total", modality="image") == 1
    assert value(shown, "missing_modality_total", modality="description") == 2
    assert value(shown, "images_failed_total") == 1
    assert value(shown, "shadow_predictions_total", shadow_version="9", agrees="no") == 1
    assert value(shown, "phase_latency_seconds_count", phase="model") == 1
    assert value(shown, "confidence_count", model_version="7") == 2
    assert value(shown, "feedback_total", model_version="7", correct="yes") == 2
    assert value(shown, "feedback_total", model_version="7", correct="no") == 1
    assert value(shown, "feedback_total", model_version="", correct="unknown") == 1


def test_padding_is_what_is_not_text() -> None:
    registry = CollectorRegistry()
    batches = Metrics(registry).batches
    batches.observe(4, 90, 120)
    batches.observe(3, 0, 0)  # photos alone
    shown = scrape(registry)
    assert value(shown, "tokens_total", kind="padding") == 30
    assert value(shown, "tokens_total", kind="text") == 90
    assert value(shown, "batch_padding_share_sum") == pytest.approx(0.25)
    assert value(shown, "batch_products_count") == 2


def test_a_swap_moves_the_version_and_keeps_count() -> None:
    registry = CollectorRegistry()
    model = Metrics(registry).model
    model.ready(True)
    model.serves("7", 2.0)
    model.refused()
    model.serves("8", 3.0)
    model.answers(Collapse(50, 10, 1.0, 0.0, 1e-30, True))
    shown = scrape(registry)
    assert value(shown, "model_info", model_version="7") == 0
    assert value(shown, "model_info", model_version="8") == 1
    assert value(shown, "model_swaps_total", outcome="swapped") == 1
    assert value(shown, "model_swaps_total", outcome="refused") == 1
    assert value(shown, "model_load_seconds_sum") == 5
    assert value(shown, "ready_workers") == 1
    assert value(shown, "collapsed") == 1
    assert value(shown, "recent_top_class_share") == 1


def test_the_logs_counts_are_counted_once() -> None:
    registry = CollectorRegistry()
    collected = Metrics(registry)
    counts = LogCounts(accepted=10, dropped=1, acknowledged=9, backlog=3)
    collected.update(counts)
    collected.update(counts)
    counts.accepted, counts.database_up = 12, False
    collected.update(counts)
    shown = scrape(registry)
    assert value(shown, "log_accepted_total") == 12
    assert value(shown, "log_dropped_total") == 1
    assert value(shown, "log_backlog") == 3
    assert value(shown, "log_database_up") == 0


def test_what_the_drift_job_found_comes_through_the_logs_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    database = Database(url)
    publish(database, Finding(DRIFT, 1000.0, {"report": REPORT, "decision": DECISION}))
    publish(database, Finding(DRIFT, 900.0, {"report": {}, "decision": {}}))  # an older one, late
    publish(database, Finding("other", 900.0, {}))
    assert {each.name: each.at for each in found(database)} == {DRIFT: 1000.0, "other": 900.0}
    registry = CollectorRegistry()
    log = InferenceLog(url, tmp_path / "spool", reporter=Metrics(registry))
    until(lambda: ("rakuten_drift_last_run_timestamp_seconds", frozenset()) in scrape(registry)
          and value(scrape(registry), "drift_last_run_timestamp_seconds") == 1000)  # fmt: skip
    log.write(record())
    assert log.close()
    shown = scrape(registry)
    assert value(shown, "drift_state", test="classes", state="drift") == 1
    assert value(shown, "drift_state", test="classes", state="ok") == 0
    assert value(shown, "drift_state", test="oov_share", state="not_enough_data") == 1
    assert value(shown, "drift_p_value", test="classes") == 0.0004
    assert value(shown, "drift_severity", kind="drift") == 2
    assert value(shown, "drift_severity", kind="collapse") == 0
    assert value(shown, "accuracy", source="estimated", bound="low") == 0.8
    assert str(value(shown, "accuracy", source="true", bound="value")) == "nan"
    assert value(shown, "log_delivered_total") == 1


WORKER = """
import sys
from rakuten.monitor.collapse import Collapse
from rakuten.monitor.metrics import forget_dead_workers, metrics
from tests.monitor.records import record
forget_dead_workers()
mine = metrics()
mine.model.ready(True)
mine.model.serves(sys.argv[1], 1.0)
mine.model.answers(Collapse(50, 10, float(sys.argv[2]), 1.0, 1.0, False))
for _ in range(3):
    mine.predictions.observe(record(code=10, model_version=sys.argv[1]))
    mine.requests.total.labels("/predict", "POST", "200").inc()
mine.requests.in_flight.inc()
print("there", flush=True)
sys.stdin.read()
"""
SCRAPE = """
import sys
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
sys.stdout.write(generate_latest(registry).decode())
"""


def test_a_scrape_of_many_workers_adds_up_and_forgets_the_dead(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def start(version: str, share: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", WORKER, version, share]
        worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == "there\n"
        return worker

    def scraped() -> Samples:
        done = subprocess.run(
            [sys.executable, "-c", SCRAPE], env=environment, capture_output=True, text=True, check=True
        )
        return samples(done.stdout)

    workers = [start("7", "0.2"), start("8", "0.9")]
    try:
        shown = scraped()
        assert value(shown, "predictions_total", prdtypecode="10", model_version="7") == 3
        assert value(shown, "http_requests_total", route="/predict", method="POST", status="200") == 6
        assert value(shown, "ready_workers") == 2
        assert value(shown, "requests_in_flight") == 2
        assert value(shown, "model_info", model_version="8") == 1
        assert value(shown, "recent_top_class_share") == 0.9
        workers[1].kill()
        workers[1].wait()
        workers.append(start("8", "0.1"))
        shown = scraped()
        assert value(shown, "ready_workers") == 2, "the dead one is not ready"
        assert value(shown, "recent_top_class_share") == 0.2
        assert value(shown, "predictions_total", prdtypecode="10", model_version="8") == 6, "it had answered"
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
