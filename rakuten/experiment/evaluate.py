"""A bundle's answers on products whose labels are known."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rakuten.data.features import Features
from rakuten.data.loader import BatchDataset, make_loader
from rakuten.experiment.calibrate import fit_temperature
from rakuten.experiment.metrics import Predictions
from rakuten.experiment.report import write_report
from rakuten.model.bundle import Modality, Predictor

TOKEN_BUDGET = 65_536  # padded tokens of an evaluation batch


def predict_rows(
    predictor: Predictor,
    features: Features,
    rows: NDArray[np.int64],
    *,
    hide: Modality | None = None,
    batch_size: int = 256,
) -> Predictions:
    """Answers for these rows, in their order, with labels and ids."""
    probs = np.empty((len(rows), len(predictor.labels)))
    position = {row: i for i, row in enumerate(rows.tolist())}
    for batch in make_loader(BatchDataset(features, rows), batch_size=batch_size, token_budget=TOKEN_BUDGET):
        probs[[position[row] for row in batch.rows.tolist()]] = predictor.probabilities(batch, hide)
    index = features.table["index"].to_numpy()[rows]
    return Predictions(labels=features.labels[rows], probs=probs, rows=index)


def predict_by_modality(
    predictor: Predictor, features: Features, rows: NDArray[np.int64], batch_size: int = 256
) -> dict[str, Predictions]:
    """`both`: all rows as they are; `text`: those with text, photo hidden; `image`: those with a photo, text hidden.

    A model with one tower has that modality alone.
    """
    everything = predict_rows(predictor, features, rows, batch_size=batch_size)
    store = features.store
    if store.tokens is None or store.photos is None:
        return {"text" if store.photos is None else "image": everything}
    with_text, with_photo = store.tokens.lengths[rows] > 0, store.photos.present[rows]
    return {
        "both": everything,
        "text": predict_rows(predictor, features, rows[with_text], hide="image", batch_size=batch_size),
        "image": predict_rows(predictor, features, rows[with_photo], hide="text", batch_size=batch_size),
    }


def calibrate(
    predictor: Predictor, features: Features, rows: NDArray[np.int64], batch_size: int = 256
) -> dict[str, float]:
    """Temperatures fitted on these rows: as they are, and from their photos alone where the model has both towers."""
    store = features.store
    found = {"temperature": _fit(predictor, features, rows, None, batch_size), "num_products": len(rows)}
    if store.tokens is not None and store.photos is not None:
        with_photo = rows[store.photos.present[rows]]
        found["temperature_without_text"] = _fit(predictor, features, with_photo, "text", batch_size)
    return found


def _fit(
    predictor: Predictor, features: Features, rows: NDArray[np.int64], hide: Modality | None, batch_size: int
) -> float:
    logits, labels = [], []
    for batch in make_loader(BatchDataset(features, rows), batch_size=batch_size, token_budget=TOKEN_BUDGET):
        logits.append(predictor.logits(batch, hide))
        labels.append(batch.labels)
    return fit_temperature(torch.cat(logits), torch.cat(labels)) if logits else 1.0


def evaluate(
    predictor: Predictor,
    features: Features,
    rows: NDArray[np.int64],
    folder: Path,
    *,
    title: str,
    facts: dict[str, str],
    num_resamples: int,
    seed: int,
    limits: dict[str, float] | None = None,
    batch_size: int = 256,
) -> dict[str, dict[str, float | None]]:
    """Score a bundle on `rows` and write the report into `folder`: {both|text|image: {metric: value}}."""
    scores = write_report(
        folder,
        predict_by_modality(predictor, features, rows, batch_size),
        predictor.labels,
        title=title,
        facts=facts,
        limits=limits,
        num_resamples=num_resamples,
        seed=seed,
    )
    # Whoever compares runs asks for `both`, whatever towers they have: what a model says of a product as it is.
    return {"both": scores.get("both") or next(iter(scores.values()))} | scores
