"""Products in, answers out: what stands between a request and the model."""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rakuten.data.preprocess import Product
from rakuten.errors import DataError
from rakuten.monitor.record import new_prediction_id
from rakuten.serve.answer import Answer, contributions_of, prediction
from rakuten.serve.batcher import Batcher, Observer
from rakuten.serve.cache import AnswerCache, key_of
from rakuten.serve.costs import Modality
from rakuten.serve.jobs import Job
from rakuten.serve.prepare import CleanText, Preparation
from rakuten.serve.problems import INTERNAL, INVALID, NOT_READY, OVERLOADED, ProblemError
from rakuten.serve.recording import Recorder, RecordLog
from rakuten.serve.schema import Mistake, Prediction
from rakuten.serve.served import Served, Source
from rakuten.serve.settings import ServeSettings

__all__ = ["Engine", "Served", "Source"]
_LOG = logging.getLogger(__name__)


class Turn:
    """One request's admission, decided at its first item that is not in the cache, and its items' places in the queue.

    Each item of a large request waits for those before it, so that small requests that come meanwhile go between.
    """

    def __init__(self, engine: "Engine", served: Served):
        self._engine, self._served = engine, served
        self._next = time.monotonic()
        self._admitted = False

    def take(self, product: Product, modalities: Sequence[Modality]) -> float:
        """The item's place: as far behind the one before as that one takes.

        Raises:
            ProblemError: overloaded.
        """
        if not self._admitted:
            self._engine.admit(self._served, product)
            self._admitted = True
        order = self._next
        self._next += self._served.costs.seconds(modalities) / self._engine.settings.runners
        return order


class Challenger(Protocol):
    """Whoever looks at what was asked, when the answer is there already."""

    def see(self, product: Product, prediction_id: str) -> None:
        """Waits for nothing and never raises."""


class Engine:
    """Answers with the source's current model.

    Raises (predict): ProblemError where there is no model, nothing that it could read, the photo cannot be decoded, or
        more is waiting than can be answered within `latency_target_ms`.
    """

    def __init__(
        self,
        settings: ServeSettings,
        source: Source,
        *,
        log: RecordLog | None = None,
        observer: Observer | None = None,
        shadow: Challenger | None = None,
    ):
        self.settings, self.source, self.shadow = settings, source, shadow
        self._preparation = Preparation()
        self._recorder = (
            None if log is None else Recorder(self._preparation, log, settings.log_texts, settings.log_images)
        )
        self._batcher = Batcher(
            runners=settings.runners,
            token_budget=settings.token_budget,
            batch_size=settings.batch_size,
            latency_target_s=settings.latency_target_ms / 1000,
            observer=observer,
        )
        self._cache: AnswerCache[Answer] = AnswerCache(settings.cache_size, keep=Answer.to_keep)
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._closing = False

    async def predict(
        self, product: Product, *, explain: bool = False, key_name: str | None = None
    ) -> Prediction:
        """
        Raises:
            ProblemError: see above.
        """
        with self._answering() as served:
            return await self._predict(served, product, Turn(self, served), explain, key_name)

    async def predict_many(
        self, products: Sequence[Product], *, explain: bool = False, key_name: str | None = None
    ) -> list[Prediction | ProblemError]:
        """Of each, in order; admitted together or not at all, and a bad one spoils no other."""
        with self._answering() as served:
            turn = Turn(self, served)
            found = await asyncio.gather(
                *(self._predict(served, product, turn, explain, key_name) for product in products),
                return_exceptions=True,
            )
        unforeseen = [each for each in found if not isinstance(each, Prediction | ProblemError)]
        if unforeseen:
            raise unforeseen[0]
        return [each for each in found if isinstance(each, Prediction | ProblemError)]

    def admit(self, served: Served, product: Product) -> None:
        """
        Raises:
            ProblemError: what is waiting takes longer than `latency_target_ms`.
        """
        ahead_s = self._batcher.wait_s(time.monotonic())
        if ahead_s == 0:  # whatever was measured: an answer is how it is measured anew
            return
        estimate_s = ahead_s + served.costs.seconds()
        if product.image is not None:
            estimate_s += self._preparation.wait_s
        if estimate_s * 1000 > self.settings.latency_target_ms:
            detail = f"an answer would take {estimate_s:.1f} s, and is to take no more than {self.settings.latency_target_ms / 1000:g} s"
            raise ProblemError(OVERLOADED, detail, retry_after_s=estimate_s)

    @property
    def waiting(self) -> int:
        """Parts of products that no runner has taken yet."""
        return self._batcher.waiting

    async def aclose(self) -> None:
        """Take no more, and answer all that is in flight."""
        self._closing = True
        while self._in_flight:
            self._idle.clear()
            await self._idle.wait()
        await asyncio.to_thread(self._batcher.close)
        await self._preparation.aclose()

    @contextmanager
    def _answering(self) -> Iterator[Served]:
        served = self.source.current
        if served is None:
            raise ProblemError(NOT_READY, self.source.problem or NOT_READY.cure, retry_after_s=5)
        if self._closing:
            raise ProblemError(NOT_READY, "the service is stopping", retry_after_s=5)
        self._in_flight += 1
        try:
            yield served
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()

    async def _predict(
        self, served: Served, product: Product, turn: Turn, explain: bool, key_name: str | None
    ) -> Prediction:
        started = time.monotonic()
        try:
            answer, cached = await self._answer(served, product, turn, explain)
        except ProblemError:
            raise
        except Exception as error:
            _LOG.exception("a product could not be answered")
            raise ProblemError(
                INTERNAL, "the model failed on this product; the service's log says why"
            ) from error
        found = prediction(
            answer.outcome.probs,
            served.predictor.labels,
            self.settings,
            version=served.version,
            prediction_id=new_prediction_id(),
            contributions=answer.contributions,
        )
        if self.shadow is not None:
            self.shadow.see(product, found.prediction_id)
        if self._recorder is not None:
            total_s = time.monotonic() - started
            self._recorder.write(answer, found, product, cached=cached, total_s=total_s, key_name=key_name)
        return found

    async def _answer(
        self, served: Served, product: Product, turn: Turn, explain: bool
    ) -> tuple[Answer, bool]:
        if self.settings.cache_size == 0:
            return await self._compute(served, product, turn, explain), False
        key = key_of(served.version, product, explain=explain)
        return await self._cache.get(key, lambda: self._compute(served, product, turn, explain))

    async def _compute(self, served: Served, product: Product, turn: Turn, explain: bool) -> Answer:
        modalities = _modalities(served, product)
        job = self._batcher.open(served, modalities, turn.take(product, modalities))
        started = time.monotonic()
        try:
            text, pixels = await self._prepare(job, product)
            decode_ms = 1000 * (time.monotonic() - started)
            outcome = await job.future
        except BaseException:
            self._batcher.drop(job)
            raise
        if not np.isfinite(outcome.probs).all():
            raise FloatingPointError("the model's output is not a number")
        contributions = await self._preparation.run(contributions_of, served, outcome) if explain else None
        recorder = self._recorder
        statistics = None if recorder is None else recorder.count(served, product, text, pixels)
        return Answer(outcome, contributions, statistics, decode_ms)

    async def _prepare(self, job: Job, product: Product) -> tuple[CleanText, NDArray[np.uint8] | None]:
        if "image" not in job.parts:
            return await self._read_text(job, product), None
        pixels, text = await asyncio.gather(self._read_photo(job, product), self._read_text(job, product))
        return text, pixels

    async def _read_text(self, job: Job, product: Product) -> CleanText:
        text = await self._preparation.text(job.served.predictor.preprocessor, product)
        if text.tokens is not None:
            self._batcher.submit(job, "text", text.tokens)
        elif "text" in job.parts:
            self._batcher.skip(job, "text")
        return text

    async def _read_photo(self, job: Job, product: Product) -> NDArray[np.uint8]:
        assert isinstance(product.image, bytes)
        try:
            pixels = await self._preparation.pixels(job.served.predictor.preprocessor, product.image)
        except DataError as error:
            mistakes = [Mistake(field="image", detail=str(error))]
            raise ProblemError(INVALID, str(error.problem), errors=mistakes) from error
        self._batcher.submit(job, "image", pixels)
        return pixels


def _modalities(served: Served, product: Product) -> list[Modality]:
    """What of the product this model reads.

    Raises:
        ProblemError: nothing.
    """
    runtime = served.runtime
    found: list[Modality] = []
    if runtime.text_dim is not None and (product.designation or product.description):
        found.append("text")
    if runtime.image_dim is not None and product.image is not None:
        found.append("image")
    if not found:
        wants = {(True, True): "a title, a description or a photo", (True, False): "a title or a description"}
        wanted = wants.get((runtime.text_dim is not None, runtime.image_dim is not None), "a photo")
        raise ProblemError(INVALID, f"nothing to go by: the model needs {wanted}")
    return found
