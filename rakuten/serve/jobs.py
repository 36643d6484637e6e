"""One product on its way through the model, and what a batch of them computes: a tower, or the head."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rakuten.data.batching import pad
from rakuten.data.text_encoder import Tokens
from rakuten.model.runtime import Embeddings, Floats, logits_of
from rakuten.serve.costs import Modality
from rakuten.serve.served import Served

T = TypeVar("T")
R = TypeVar("R")
Input = Tokens | NDArray[np.uint8]


@dataclass(frozen=True)
class Outcome:
    """What the model made of one product."""

    probs: NDArray[np.float64]  # (C,) calibrated
    text: Floats | None  # (D_t,) features; None where the tower saw nothing
    image: Floats | None  # (D_i,)
    has_text: bool
    has_image: bool
    queue_ms: float  # of the part that waited longest
    model_ms: float  # of the batches it was part of


@dataclass(eq=False)
class Job:
    """One product on its way."""

    served: Served
    order: float  # time.monotonic() when it came; of a request with many items, when its turn is
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Outcome]
    parts: dict[Modality | None, "Part"] = field(default_factory=dict)
    features: dict[Modality, Floats] = field(default_factory=dict)
    queue_s: float = 0.0
    model_s: float = 0.0

    def is_complete(self, part: "Part", found: Floats, started: float, seconds: float) -> bool:
        """Whether `part`, of which a batch made `found`, was the last one."""
        assert part.submitted is not None
        self.queue_s = max(self.queue_s, started - part.submitted)
        self.model_s += seconds
        if part.modality is not None:
            self.features[part.modality] = found
        self.parts.pop(part.modality, None)
        return not self.parts


@dataclass(eq=False)
class Part:
    """What one tower is to read of a product; without `data` while it is being prepared."""

    job: Job
    modality: Modality | None
    units: int
    data: Input | None = None
    submitted: float | None = None

    @property
    def order(self) -> float:
        return self.job.order

    @property
    def group(self) -> object:
        return self.job.served, self.modality


def run_tower(batch: Sequence[Part]) -> list[Floats]:
    """One tower over a batch."""
    served, modality = batch[0].job.served, batch[0].modality
    if modality is None:
        return [np.empty(0, np.float32)] * len(batch)
    data = [part.data for part in batch]
    if modality == "image":
        return list(served.runtime.image(np.stack([each for each in data if isinstance(each, np.ndarray)])))
    encoder = served.predictor.preprocessor.text_encoder
    assert encoder is not None
    return list(
        served.runtime.text(*pad([each for each in data if isinstance(each, Tokens)], encoder.pad_id))
    )


def run_head(jobs: Sequence[Job]) -> list[Outcome]:
    """The head over complete products of one model."""
    served = jobs[0].served
    has = {modality: np.array([modality in job.features for job in jobs]) for modality in ("text", "image")}
    embeddings = Embeddings(
        _stacked(served.runtime.text_dim, [job.features.get("text") for job in jobs]),
        _stacked(served.runtime.image_dim, [job.features.get("image") for job in jobs]),
        has["text"],
        has["image"],
    )
    probs = served.predictor.calibration.probabilities(
        logits_of(served.runtime, embeddings), embeddings.has_text
    )
    return [
        Outcome(
            probs=probs[row],
            text=job.features.get("text"),
            image=job.features.get("image"),
            has_text="text" in job.features,
            has_image="image" in job.features,
            queue_ms=1000 * job.queue_s,
            model_ms=1000 * job.model_s,
        )
        for row, job in enumerate(jobs)
    ]


def _stacked(width: int | None, rows: Sequence[Floats | None]) -> Floats | None:
    if width is None:
        return None
    absent = np.zeros(width, np.float32)
    return np.stack([absent if row is None else row for row in rows])


def isolated(run: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | Exception]:
    """What `run` makes of the items; where it fails, one by one, so that a poisonous one fails alone."""
    if not items:
        return []
    try:
        return list(run(items))
    except Exception as error:
        if len(items) == 1:
            return [error]
        return [found for item in items for found in isolated(run, [item])]
