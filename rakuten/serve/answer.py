"""Probabilities -> what an answer says."""

from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rakuten.data.labels import LabelSet
from rakuten.data.statistics import InputStatistics
from rakuten.model.runtime import Embeddings, logits_of
from rakuten.serve.jobs import Outcome
from rakuten.serve.schema import Candidate, Contributions, Prediction
from rakuten.serve.served import Served
from rakuten.serve.settings import ServeSettings

ROUNDING = 1e-9  # 0.6 + 0.3 reaches 0.9


@dataclass(frozen=True)
class Answer:
    """What was computed, for one request or for all that are identical."""

    outcome: Outcome
    contributions: Contributions | None  # None unless asked for
    statistics: "Future[InputStatistics] | None"  # None where nothing is logged
    decode_ms: float

    def to_keep(self) -> "Answer":
        """Without the features, which are larger than all the rest."""
        return replace(self, outcome=replace(self.outcome, text=None, image=None))


def prediction(
    probs: NDArray[np.float64],
    labels: LabelSet,
    settings: ServeSettings,
    *,
    version: str,
    prediction_id: str,
    contributions: Contributions | None = None,
) -> Prediction:
    """What (C,) calibrated probabilities say; of two alike the first in the order of the labels."""
    order = np.argsort(-probs, kind="stable")
    best = float(probs[order[0]])
    candidates = _candidates(
        probs, labels, order[: max(settings.top_k, num_reaching(probs[order], settings.coverage))]
    )
    return Prediction(
        predicted_prdtypecode=candidates[0].prdtypecode,
        name=candidates[0].name,
        confidence=best,
        abstained=best < settings.abstain_below,
        top_k=candidates[: settings.top_k],
        prediction_set=candidates[: num_reaching(probs[order], settings.coverage)],
        contributions=contributions,
        model_version=version,
        prediction_id=prediction_id,
    )


def num_reaching(falling: NDArray[np.float64], coverage: float) -> int:
    """The fewest of (C,) falling probabilities that reach `coverage` together; all for a coverage of 1."""
    if coverage >= 1:
        return len(falling)
    reached = int(np.searchsorted(np.cumsum(falling), coverage - ROUNDING)) + 1
    return min(reached, len(falling))


def _candidates(probs: NDArray[np.float64], labels: LabelSet, order: NDArray[np.intp]) -> list[Candidate]:
    return [
        Candidate(prdtypecode=labels.codes[i], name=labels.names[i], confidence=min(1.0, float(probs[i])))
        for i in order.tolist()
    ]


def contributions_of(served: Served, outcome: Outcome) -> Contributions:
    """What text and photo each brought to the confidence in the answer: exact Shapley values, from four heads."""
    runtime = served.runtime
    seen = [(False, False), (True, False), (False, True), (True, True)]
    has_text, has_image = (
        np.array(column) & there
        for column, there in zip(zip(*seen), (outcome.has_text, outcome.has_image), strict=True)
    )
    text, image = (
        None if width is None else np.tile(np.zeros(width, np.float32) if row is None else row, (4, 1))
        for width, row in ((runtime.text_dim, outcome.text), (runtime.image_dim, outcome.image))
    )
    embeddings = Embeddings(text, image, has_text, has_image)
    probs = served.predictor.calibration.probabilities(logits_of(runtime, embeddings), has_text)
    nothing, text_only, image_only, both = probs[:, int(outcome.probs.argmax())]
    return Contributions(
        text=((text_only - nothing) + (both - image_only)) / 2,
        image=((image_only - nothing) + (both - text_only)) / 2,
    )
