"""What text and photo each contributed to an answer: the exact Shapley value of a game of two players."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rakuten.model.calibration import Calibration
from rakuten.model.runtime import Embeddings, Runtime, logits_of


@dataclass(frozen=True)
class Contributions:
    """(B,) each. `text + image` is the confidence less `baseline`, that of a product of which nothing is known."""

    text: NDArray[np.float64]
    image: NDArray[np.float64]
    baseline: NDArray[np.float64]


def contributions(
    runtime: Runtime,
    calibration: Calibration,
    embeddings: Embeddings,
    answers: NDArray[np.int64] | None = None,
) -> Contributions:
    """Shapley values of text and photo for the probability of `answers` (B,) class indices; default: the most likely.

    v(S) is the calibrated probability that the service gives a product that has S alone of its modalities: so the
    temperature of v(nothing) and v(photo) is that of products without text, of v(text) and v(both) that of products
    with text, and each v is a confidence that a customer could have been told. With two players the average over
    orders is (Shapley, "A value for n-person games", 1953):

        text  = 1/2 (v(text) - v(nothing)) + 1/2 (v(both) - v(photo))
        photo = 1/2 (v(photo) - v(nothing)) + 1/2 (v(both) - v(text))

    A modality that the product lacks gets exactly 0. Costs four heads; the towers have run.
    """
    nothing, text, image, both = _coalitions(runtime, calibration, embeddings)
    chosen = both.argmax(axis=1) if answers is None else answers
    v0, vt, vi, vb = (
        np.take_along_axis(v, chosen[:, None], axis=1)[:, 0] for v in (nothing, text, image, both)
    )
    of_text = 0.5 * (vt - v0) + 0.5 * (vb - vi)
    of_image = 0.5 * (vi - v0) + 0.5 * (vb - vt)
    return Contributions(of_text, of_image, v0)


def _coalitions(
    runtime: Runtime, calibration: Calibration, embeddings: Embeddings
) -> tuple[NDArray[np.float64], ...]:
    """(B, C) probabilities of nothing, text, photo, both.

    Coalitions that are the same product are the same numbers: a matrix product may round a row otherwise beside others.
    """

    def value(*, text: bool, image: bool) -> NDArray[np.float64]:
        part = embeddings.without(text=not text, image=not image)
        return calibration.probabilities(logits_of(runtime, part), part.has_text)

    has_text, has_image = embeddings.has_text[:, None], embeddings.has_image[:, None]
    nothing = value(text=False, image=False)
    text = np.where(has_text, value(text=True, image=False), nothing)
    image = np.where(has_image, value(text=False, image=True), nothing)
    both = np.where(has_image, np.where(has_text, value(text=True, image=True), image), text)
    return nothing, text, image, both
