"""Feedback is counted by what was answered, whoever answered it, and never in the way of a request."""

import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from rakuten.data.labels import Code
from rakuten.monitor.feedback import MAX_WAITING, FeedbackCounter
from rakuten.monitor.log import InferenceLog
from rakuten.monitor.metrics import Metrics
from rakuten.monitor.reader import LogReader
from tests.monitor.records import record
from tests.monitor.test_log import until
from tests.services import postgres

SOON_S = (0.1, 0.2, 0.3)


def counted(registry: CollectorRegistry, version: str, correct: str) -> float:
    labels = {"model_version": version, "correct": correct}
    return registry.get_sample_value("rakuten_feedback_total", labels) or 0.0


def test_feedback_is_right_or_wrong_by_what_the_log_says(tmp_path: Path) -> None:
    url, registry = f"sqlite:///{tmp_path / 'log.db'}", CollectorRegistry()
    right, wrong = record(1, code=10, model_version="1"), record(2, code=2403, model_version="2")
    log = InferenceLog(url, tmp_path / "spool")
    log.write(right)
    log.write(wrong)
    assert log.close()
    counter = FeedbackCounter(LogReader(url), Metrics(registry).predictions.observe_feedback, SOON_S)
    counter.count(right.prediction_id, 10)
    counter.count(wrong.prediction_id, 10)
    counter.count("0" * 32, 10)
    until(lambda: counted(registry, "", "unknown") == 1)
    assert counted(registry, "1", "yes") == counted(registry, "2", "no") == 1
    assert counted(registry, "1", "no") == counted(registry, "2", "yes") == 0
    counter.close()


def test_feedback_that_comes_before_its_answer_is_logged_counts_too(tmp_path: Path) -> None:
    url, registry = f"sqlite:///{tmp_path / 'log.db'}", CollectorRegistry()
    early = record(1, code=10, model_version="1")
    counter = FeedbackCounter(LogReader(url), Metrics(registry).predictions.observe_feedback, (0.1, 1.0, 5.0))
    counter.count(early.prediction_id, 10)
    time.sleep(0.5)  # looked for, and not found
    log = InferenceLog(url, tmp_path / "spool")
    log.write(early)
    assert log.close()
    until(lambda: counted(registry, "1", "yes") == 1)
    assert counted(registry, "", "unknown") == 0
    counter.close()


def test_a_fault_in_counting_one_does_not_end_the_counting(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    log = InferenceLog(url, tmp_path / "spool")
    assert log.close()
    seen: list[Code] = []

    def observe(code: Code, answered: tuple[str, Code] | None) -> None:
        seen.append(code)
        if len(seen) == 1:
            raise ValueError("a fault of the first")

    counter = FeedbackCounter(LogReader(url), observe, (0.05,))
    counter.count("0" * 32, 10)
    until(lambda: seen == [10])
    counter.count("1" * 32, 2403)
    until(lambda: seen == [10, 2403])
    counter.close()


def test_a_database_that_is_away_costs_the_caller_nothing(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    with postgres(tmp_path) as server:
        url = server.url
    counter = FeedbackCounter(LogReader(url), Metrics(registry).predictions.observe_feedback, SOON_S)
    for _ in range(MAX_WAITING + 50):
        counter.count("0" * 32, 10)
    until(lambda: counted(registry, "", "unknown") >= 51)
    counter.close()
