"""Made-up traffic of a model with six classes: columns drawn from one distribution, and from others."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import TypeAdapter

from rakuten.config import DriftConfig
from rakuten.model.reference import Observations, Reference

CODES = (10, 40, 50, 60, 2583, 2705)
SHARES = np.array([0.3, 0.25, 0.2, 0.15, 0.07, 0.03])
ACCURACY = 0.85
CONF = Path(__file__).parents[2] / "conf/drift.yaml"


def drift_config(**changes: Any) -> DriftConfig:
    """As shipped, but for `changes`."""
    values = yaml.safe_load(CONF.read_text(encoding="utf-8"))["drift"]
    return TypeAdapter(DriftConfig).validate_python(values | changes)


def traffic(seed: int, n: int, shares: Any = SHARES) -> Observations:
    """`n` products whose true classes follow `shares`; what the model makes of a class is always the same."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(CODES), n, p=shares)
    said = np.where(rng.random(n) < ACCURACY, labels, rng.integers(0, len(CODES), n))
    confidence = rng.beta(8, 2, n).clip(0.3, 0.99)
    probs = np.repeat(((1 - confidence) / (len(CODES) - 1))[:, None], len(CODES), axis=1)
    probs[np.arange(n), said] = confidence
    has_image, has_description = rng.random(n) < 0.9, rng.random(n) < 0.65

    def where(present: Any, values: Any) -> Any:
        return np.where(present, values, np.nan).astype(np.float32)

    centres = np.random.default_rng(0).normal(size=(2, len(CODES), 8))
    return Observations(
        ids=np.array([f"{seed}-{i}" for i in range(n)]),
        probs=probs.astype(np.float32),
        numbers={
            "title_chars": rng.poisson(60, n).astype(np.float32),
            "description_chars": where(has_description, rng.poisson(300, n)),
            "oov_share": (rng.poisson(0.4, n) / 10).astype(np.float32),
            "sharpness": where(has_image, rng.lognormal(5, 0.5, n)),
        },
        flags={
            "has_image": has_image,
            "has_description": has_description,
            "has_text": np.ones(n, dtype=bool),
        },
        categories={"language": rng.choice(["fr", "en", "de"], n, p=[0.85, 0.1, 0.05])},
        embeddings={
            "text": (centres[0, labels] + rng.normal(size=(n, 8))).astype(np.float16),
            "image": where(has_image[:, None], centres[1, labels] + rng.normal(size=(n, 8))).astype(
                np.float16
            ),
        },
        labels=labels.astype(np.int64),
    )


def reference(seed: int = 1_000, n: int = 1_500) -> Reference:
    return Reference(traffic(seed, n), CODES, np.array([3, 5], dtype=np.uint32))
