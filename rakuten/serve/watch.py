"""What the engine tells: every answer to the log, the metrics and the collapse rule, every batch to the metrics."""

from collections.abc import Mapping
from pathlib import Path

from rakuten.data.labels import Code
from rakuten.errors import RakutenError
from rakuten.model.reference import Reference
from rakuten.monitor.collapse import MIN_ANSWERS, WINDOW, CollapseDetector
from rakuten.monitor.feedback import FeedbackCounter
from rakuten.monitor.log import InferenceLog
from rakuten.monitor.metrics import Metrics
from rakuten.monitor.record import PredictionRecord
from rakuten.monitor.retention import Retention
from rakuten.serve.batcher import BatchFacts
from rakuten.serve.served import Served, Source
from rakuten.serve.shadow import Shadow

SPOOL = "inference-spool"  # the journals' folder: beside an SQLite database, else below outputs


def open_log(url: str, metrics: Metrics, retention: Retention | None = None) -> InferenceLog | None:
    """The inference log; None where `url` is empty.

    Raises:
        RakutenError: the address is none, or the folder of its journals cannot be written to.
    """
    if not url:
        return None
    database = url.removeprefix("sqlite:///")
    folder = Path("outputs") if database == url else Path(database).parent
    return InferenceLog(url, folder / SPOOL, retention=retention, reporter=metrics)


class Watch:
    """Of one worker. It is never the reason why a request fails."""

    def __init__(
        self,
        log: InferenceLog | None,
        metrics: Metrics,
        source: Source,
        workers: int,
        feedback: FeedbackCounter | None = None,
        shadow: Shadow | None = None,
    ):
        self._log, self._metrics, self._source, self._feedback = log, metrics, source, feedback
        self._shadow = shadow
        self._window = max(MIN_ANSWERS, WINDOW // workers)
        self._version: str | None = None
        self._detector: CollapseDetector | None = None

    def write(self, record: PredictionRecord) -> None:
        if self._shadow is None:
            self._write(record)
        else:
            self._shadow.add_to(record, self._write)

    def lost(self) -> None:
        if self._log is not None:
            self._log.lost()

    def _write(self, record: PredictionRecord) -> None:
        self._metrics.predictions.observe(record)
        if not record.cached:
            self._look(record)
        if self._log is not None:
            self._log.write(record)

    def feedback(self, prediction_id: str, code: Code, *, key_name: str | None = None) -> bool:
        """As the log's, and counted."""
        taken = self._log is not None and self._log.feedback(prediction_id, code, key_name=key_name)
        if taken and self._feedback is not None:
            self._feedback.count(prediction_id, code)
        return taken

    def batch(self, facts: BatchFacts) -> None:
        batches = self._metrics.batches
        batches.queue.set(facts.waiting)
        if facts.modality == "text":
            batches.observe(facts.parts, facts.units, facts.padded_units)
        else:
            batches.products.observe(facts.parts)

    def _look(self, record: PredictionRecord) -> None:
        served = self._source.current
        if served is None or record.model_version != served.version:
            return  # of the one before: it tells nothing of the one that answers now
        if self._detector is None or self._version != served.version:
            self._version = served.version
            self._detector = CollapseDetector(answered_shares(served), self._window)
        self._metrics.model.answers(self._detector.observe(record.code))


def answered_shares(served: Served) -> Mapping[Code, float]:
    """Of each class among the model's answers to held-out products; of a bundle that has none recorded, all alike."""
    codes = served.predictor.labels.codes
    try:
        reference = Reference.load(served.bundle)
    except RakutenError:
        return dict.fromkeys(codes, 1 / len(codes))
    answers = reference.seen.predicted
    return {code: float((answers == position).mean()) for position, code in enumerate(reference.codes)}
