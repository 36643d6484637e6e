"""Probabilities -> what an answer says."""

from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rakuten.data.labels import LabelSet
from rakuten.data.statistics import InputStatistics
from rakuten.model.explain import contributions
from rakuten.model.runtime import Embeddings
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
    """What text and photo each brought to the confidence in the answer."""
    text, image = (
        None if width is None else np.zeros((1, width), np.float32) if row is None else row[None]
        for width, row in (
            (served.runtime.text_dim, outcome.text),
            (served.runtime.image_dim, outcome.image),
        )
    )
    has_text, has_image = np.array([outcome.has_text]), np.array([outcome.has_image])
    found = contributions(
        served.runtime,
        served.predictor.calibration,
        Embeddings(text, image, has_text, has_image),
        np.array([outcome.probs.argmax()]),
    )
    return Contributions(text=float(found.text[0]), image=float(found.image[0]))
