"""Products in, answers out: what stands between a request and the model."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rakuten.data.preprocess import Product
from rakuten.model.bundle import Predictor
from rakuten.serve.problems import INVALID, NOT_READY, ProblemError
from rakuten.serve.schema import Candidate, Contributions, Prediction
from rakuten.serve.settings import ServeSettings


@dataclass(frozen=True)
class Served:
    """A model in memory, checked and warm."""

    version: str
    predictor: Predictor
    loaded_at: str  # ISO 8601, UTC


class Source(Protocol):
    """Whoever knows which model answers now."""

    @property
    def current(self) -> Served | None: ...


class Engine:
    """Answers with the source's current model.

    Raises (predict): ProblemError where there is no model, the photo cannot be decoded, or too much is waiting.
    """

    def __init__(self, settings: ServeSettings, source: Source):
        self.settings, self.source = settings, source
        self._threads = ThreadPoolExecutor(settings.runners)

    async def predict(self, product: Product, *, explain: bool = False) -> Prediction:
        served = self.source.current
        if served is None:
            raise ProblemError(NOT_READY, "no champion: python scripts/promote.py", retry_after_s=5)
        loop = asyncio.get_running_loop()
        probs = await loop.run_in_executor(self._threads, _probabilities, served.predictor, product)
        return self._prediction(served, probs, Contributions(text=0, image=0) if explain else None)

    async def aclose(self) -> None:
        self._threads.shutdown()

    def _prediction(
        self, served: Served, probs: NDArray[np.float64], contributions: Contributions | None
    ) -> Prediction:
        order = np.argsort(-probs, kind="stable")
        reached = int(np.searchsorted(np.cumsum(probs[order]), self.settings.coverage)) + 1
        best = float(probs[order[0]])
        return Prediction(
            predicted_prdtypecode=served.predictor.labels.codes[order[0]],
            name=served.predictor.labels.names[order[0]],
            confidence=best,
            abstained=best < self.settings.abstain_below,
            top_k=_candidates(served, probs, order[: self.settings.top_k]),
            prediction_set=_candidates(served, probs, order[:reached]),
            contributions=contributions,
            model_version=served.version,
            prediction_id=uuid.uuid4().hex,
        )


def _probabilities(predictor: Predictor, product: Product) -> NDArray[np.float64]:
    [example] = predictor.preprocessor([product])
    if example.image_problem is not None:
        raise ProblemError(INVALID, example.image_problem)
    probs: NDArray[np.float64] = predictor.probabilities(predictor.batch([example]))[0]
    return probs


def _candidates(served: Served, probs: NDArray[np.float64], order: NDArray[np.intp]) -> list[Candidate]:
    labels = served.predictor.labels
    return [
        Candidate(prdtypecode=labels.codes[i], name=labels.names[i], confidence=float(probs[i]))
        for i in order
    ]
