"""A model's answers on preprocessed products, in the columns that drift is told by."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rakuten.data.preprocess import Example
from rakuten.data.statistics import InputStatistics
from rakuten.model.bundle import Predictor
from rakuten.model.reference import Observations
from rakuten.model.runtime import TorchRuntime, embed


def observe(
    predictor: Predictor,
    examples: Sequence[Example],
    statistics: Sequence[InputStatistics],
    ids: Sequence[str],
    labels: NDArray[np.int64] | None = None,
    *,
    batch_size: int = 64,
) -> Observations:
    """What `predictor` says of N products, in their order, beside what was counted of their inputs.

    Args:
        labels: (N,) positions among the model's codes, where they are known.
    """
    runtime = TorchRuntime(predictor.classifier, predictor.device)
    num = len(examples)
    probs = np.empty((num, len(predictor.labels)), dtype=np.float32)
    dims = {"text": runtime.text_dim, "image": runtime.image_dim}
    embeddings = {k: np.full((num, dim), np.nan, np.float32) for k, dim in dims.items() if dim is not None}
    by_length = np.argsort(
        [0 if each.tokens is None else len(each.tokens) for each in examples], kind="stable"
    )
    for start in range(0, num, batch_size):
        rows = by_length[start : start + batch_size]
        made = embed(runtime, predictor.batch([examples[row] for row in rows]))
        probs[rows] = predictor.probabilities_of(runtime, made)
        for name, features, present in (
            ("text", made.text, made.has_text),
            ("image", made.image, made.has_image),
        ):
            if features is not None:
                embeddings[name][rows[present]] = features[present]
    return Observations.of(ids, probs, statistics, embeddings, labels)
