"""Made-up records of predictions."""

import time
from typing import Any

import numpy as np

from rakuten.data.statistics import InputStatistics
from rakuten.monitor.record import PredictionRecord, new_prediction_id

NUM_CLASSES, DIM = 27, 64


def record(seed: int = 0, **changes: Any) -> PredictionRecord:
    """What a small fusion model would have answered to a title and a photo of 500 px."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(NUM_CLASSES, 0.1)).astype(np.float32)
    values = {
        "prediction_id": new_prediction_id(),
        "at": time.time(),
        "model_version": "7",
        "code": int(np.argmax(probs)),
        "confidence": float(probs.max()),
        "probs": probs,
        "abstained": False,
        "cached": False,
        "statistics": statistics(),
        "text_embedding": rng.normal(size=DIM).astype(np.float32),
        "image_embedding": rng.normal(size=DIM).astype(np.float32),
        "queue_ms": 1.0,
        "decode_ms": 2.5,
        "model_ms": 7.0,
        "total_ms": 11.0,
        "key_name": "shop",
    }
    return PredictionRecord(**(values | changes))


def statistics(**changes: Any) -> InputStatistics:
    values = {
        "has_text": True,
        "has_description": False,
        "has_image": True,
        "image_failed": False,
        "title_chars": 42,
        "description_chars": 0,
        "num_tokens": 17,
        "oov_share": 0.05,
        "language": "fr",
        "image_width": 500,
        "image_height": 400,
        "brightness": 0.8,
        "contrast": 0.2,
        "saturation": 0.1,
        "sharpness": 310.5,
        "white_share": 0.4,
    }
    return InputStatistics(**(values | changes))
