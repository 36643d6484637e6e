"""Every answer -> a record for whoever keeps or counts it, made after the answer has gone out."""

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rakuten.data.preprocess import Example, Product
from rakuten.data.statistics import InputStatistics, declared_size, statistics_of
from rakuten.monitor.record import PredictionRecord
from rakuten.serve.answer import Answer
from rakuten.serve.prepare import CleanText, Preparation
from rakuten.serve.schema import Prediction
from rakuten.serve.served import Served

_LOG = logging.getLogger(__name__)


class RecordLog(Protocol):
    """Whoever keeps or counts what was answered."""

    def write(self, record: PredictionRecord) -> object:
        """Waits for nothing and never raises; called from any thread."""

    def lost(self) -> None:
        """An answer went out of which there is no record. As `write`."""


@dataclass(frozen=True)
class Recorder:
    """Counts inputs in the threads that prepare them, so that they cost the event loop next to nothing."""

    preparation: Preparation
    log: RecordLog
    texts: bool  # keep titles and descriptions
    images: bool

    def count(
        self, served: Served, product: Product, text: CleanText, pixels: NDArray[np.uint8] | None
    ) -> "Future[InputStatistics]":
        return self.preparation.later(_statistics, served, product, text, pixels)

    def write(
        self,
        answer: Answer,
        found: Prediction,
        product: Product,
        *,
        cached: bool,
        total_s: float,
        key_name: str | None,
    ) -> None:
        """Once the input is counted."""
        at, outcome = time.time(), answer.outcome
        assert answer.statistics is not None

        def finish(statistics: "Future[InputStatistics]") -> None:
            error = statistics.exception()
            if error is not None:  # our own mistake: the answer is out and was right
                _LOG.error("prediction %s is not logged", found.prediction_id, exc_info=error)
                self.log.lost()
                return
            self.log.write(
                PredictionRecord(
                    prediction_id=found.prediction_id,
                    at=at,
                    model_version=found.model_version,
                    code=found.predicted_prdtypecode,
                    confidence=found.confidence,
                    probs=outcome.probs.astype(np.float32),
                    abstained=found.abstained,
                    cached=cached,
                    statistics=statistics.result(),
                    text_embedding=None if cached else outcome.text,
                    image_embedding=None if cached else outcome.image,
                    queue_ms=None if cached else outcome.queue_ms,
                    decode_ms=None if cached else answer.decode_ms,
                    model_ms=None if cached else outcome.model_ms,
                    total_ms=1000 * total_s,
                    key_name=key_name,
                    designation=product.designation if self.texts else None,
                    description=product.description if self.texts else None,
                    image=product.image if self.images and isinstance(product.image, bytes) else None,
                )
            )

        answer.statistics.add_done_callback(finish)


def _statistics(
    served: Served, product: Product, text: CleanText, pixels: NDArray[np.uint8] | None
) -> InputStatistics:
    encoder = served.predictor.preprocessor.text_encoder
    return statistics_of(
        text.title,
        text.description,
        Example(text.tokens, pixels),
        unknown_id=None if encoder is None else encoder.unknown_id,
        known_words=served.known_words,
        size_px=declared_size(product.image),
    )
