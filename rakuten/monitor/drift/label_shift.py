"""How the shares of the true categories have moved, from the answers alone: black box shift estimation.

Shapes: C classes, R resamples, N products.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from rakuten.data.labels import Code
from rakuten.model.reference import Observations
from rakuten.monitor.drift.report import Interval, ShareEstimate

Floats = NDArray[np.float64]
RIDGE: Final = (
    1e-3  # of the confusion's mean square: classes that the model cannot tell apart share what is theirs
)


def estimate_shares(
    reference: Observations,
    window: Observations,
    codes: Sequence[Code],
    *,
    level: float,
    num_resamples: int,
    rng: np.random.Generator,
) -> list[ShareEstimate]:
    """Each category's share in the window, all intervals together at `level`.

    BBSE with probabilities (Lipton, Wang & Smola, 2018): the window's mean answer is the reference's mean answer of each
    true class, mixed by the shares. Right where the classes' products are as they were and only their shares moved; a
    category that the reference lacks has no estimate and is left out. Intervals by the bootstrap of both sides (Poisson
    weights), corrected for the number of categories (Bonferroni).
    """
    known = reference.take(reference.labels >= 0)
    classes = np.unique(known.labels)
    weights = np.vstack([np.ones(len(known)), rng.poisson(1.0, (num_resamples, len(known)))])
    confusion = _mean_answers(known, classes, weights)
    window_weights = np.vstack([np.ones(len(window)), rng.poisson(1.0, (num_resamples, len(window)))])
    answers = window_weights @ window.probs / np.maximum(1, window_weights.sum(axis=1, keepdims=True))
    shares = _unmix(confusion, answers)
    counts = np.bincount(known.labels, minlength=len(codes))[classes]
    prior = counts / len(known)
    # Student's, not Gauss': what a rare category looks like is known from few products.
    width = student_t.ppf(1 - (1 - level) / (2 * len(classes)), np.maximum(1, counts - 1))
    # On the scale of square roots a share has one spread, rare or not (Anscombe, 1948); a resample of none of a rare
    # category's products knows nothing of it, so the spread is at least that of plain counting.
    offset = 3 / (8 * len(window))
    root, spread = np.sqrt(shares + offset), 1 / (2 * np.sqrt(len(window)))
    half = width * np.maximum(root[1:].std(axis=0, ddof=1), spread)
    low, high = np.maximum(root[0] - half, 0) ** 2 - offset, (root[0] + half) ** 2 - offset
    # The prior, too, is of a sample.
    error = np.hypot(half, width / (2 * np.sqrt(len(known))))
    changed = np.abs(root[0] - np.sqrt(prior + offset)) > error
    return [
        ShareEstimate(
            code=codes[position],
            reference=float(prior[i]),
            share=Interval(*(float(np.clip(each[i], 0, 1)) for each in (shares[0], low, high))),
            changed=bool(changed[i]),
        )
        for i, position in enumerate(classes.tolist())
    ]


def _mean_answers(known: Observations, classes: NDArray[np.int64], weights: Floats) -> Floats:
    """(R, C, classes) mean probabilities of each true class, one matrix a row of `weights` (R, N)."""
    columns = []
    for label in classes:
        mine = known.labels == label
        sums = weights[:, mine] @ known.probs[mine]
        total = weights[:, mine].sum(axis=1, keepdims=True)
        # A resample without this class takes what all its products say.
        columns.append(np.where(total > 0, sums / np.maximum(total, 1), known.probs[mine].mean(axis=0)))
    return np.stack(columns, axis=2)


def _unmix(confusion: Floats, answers: Floats) -> Floats:
    """(R, classes) shares of which (R, C, classes) mixed give (R, C) answers, none below 0, sum 1."""
    transposed = confusion.transpose(0, 2, 1)
    square = transposed @ confusion
    num = square.shape[1]
    ridge = RIDGE * np.trace(square, axis1=1, axis2=2)[:, None, None] / num * np.eye(num)
    shares = np.linalg.solve(square + ridge, transposed @ answers[:, :, None])[:, :, 0]
    positive = np.maximum(shares, 0)
    found: Floats = positive / np.maximum(positive.sum(axis=1, keepdims=True), 1e-12)
    return found
