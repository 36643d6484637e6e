"""One prediction as it is logged: what was asked, in numbers, what was answered, and how long it took."""

import uuid
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rakuten.data.labels import Code
from rakuten.data.statistics import InputStatistics

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictionRecord:
    """One answer. Texts and the photo are None unless storing them was chosen; C classes, embeddings of width D."""

    prediction_id: str  # 32 hexadecimal digits
    at: float  # Unix time, s
    model_version: str
    code: Code  # the answer
    confidence: float  # calibrated, of `code`
    probs: Floats  # (C,) calibrated, in the order of the model's labels
    abstained: bool
    cached: bool  # from the cache of answers: no model call of its own
    statistics: InputStatistics
    text_embedding: Floats | None = None  # (D,) pooled, of the text tower; None where the tower saw nothing
    image_embedding: Floats | None = None  # (D,) pooled, of the image tower
    queue_ms: float | None = None  # waiting for a batch
    decode_ms: float | None = None  # cleaning, tokenizing and decoding the photo
    model_ms: float | None = None  # the batch that it was part of
    total_ms: float | None = None
    key_name: str | None = None  # of the API key that asked, never the key
    shadow_version: str | None = None  # the challenger that saw this product too, and what it would have said
    shadow_code: Code | None = None
    shadow_confidence: float | None = None
    designation: str | None = None
    description: str | None = None
    image: bytes | None = None  # as it was sent


def new_prediction_id() -> str:
    return uuid.uuid4().hex
