"""Engines over tiny models, and a runtime whose door can be shut: what waits in front of it can be looked at."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rakuten.model.bundle import Predictor
from rakuten.model.runtime import Floats, Mask, TorchRuntime
from rakuten.serve.engine import Engine
from rakuten.serve.served import Served
from rakuten.serve.settings import ServeSettings, load_settings
from tests.model.tiny import LABELS, classifier, model_config, preprocessor

CALIBRATION = {"temperature": 1.3, "temperature_without_text": 0.7}
POISON = 251  # a photo whose first byte this is fails in the model


class Door:
    """A runtime behind a door, which counts who goes through: `texts` and `photos` hold each batch's shape."""

    name = "torch"

    def __init__(self, inner: TorchRuntime):
        self._inner = inner
        self.text_dim, self.image_dim = inner.text_dim, inner.image_dim
        self.tolerance = getattr(inner, "tolerance", 1e-4)
        self.is_open = threading.Event()
        self.is_open.set()
        self.entered = threading.Semaphore(0)  # once a batch
        self.texts: list[tuple[int, ...]] = []
        self.lengths: list[list[int]] = []
        self.photos: list[int] = []

    def text(self, tokens: NDArray[np.int64], weights: Floats) -> Floats:
        self.texts.append(tokens.shape)
        self.lengths.append((weights > 0).sum(axis=1).tolist())
        self._enter()
        return self._inner.text(tokens, weights)

    def image(self, pixels: NDArray[np.uint8]) -> Floats:
        self.photos.append(len(pixels))
        self._enter()
        if (pixels[:, 0, 0, 0] == POISON).any():
            raise RuntimeError("poison")
        return self._inner.image(pixels)

    def head(self, text: Floats | None, image: Floats | None, has_text: Mask, has_image: Mask) -> Floats:
        return self._inner.head(text, image, has_text, has_image)

    def _enter(self) -> None:
        self.entered.release()
        assert self.is_open.wait(60)


def made(
    text: str | None = "ngram", image: str | None = "test_resnet", *, version: str = "1", seed: int = 0
) -> tuple[Served, Door]:
    """A model in memory, its runtime behind a door."""
    config = model_config(text, image, "gated" if text and image else None)
    processor = preprocessor(config)
    predictor = Predictor(
        classifier(config, processor, seed), processor, LABELS, {"calibration": CALIBRATION}
    )
    door = Door(TorchRuntime(predictor.classifier))
    return Served(version, predictor, "2026-11-24T12:00:00+00:00", door, Path("nowhere")), door


class Model:
    """A source whose model can be swapped."""

    problem: str | None = None

    def __init__(self, served: Served | None):
        self.current = served


def settings(**changes: Any) -> ServeSettings:
    return load_settings(**{"cache_size": 0, "log": "", **changes})


@asynccontextmanager
async def engine(served: Served | None, log: Any = None, **changes: Any) -> AsyncIterator[Engine]:
    made = Engine(settings(**changes), Model(served), log=log)
    try:
        yield made
    finally:
        await made.aclose()


async def until(holds: Callable[[], bool]) -> None:
    """Returns once it holds; the test's time limit is what ends it otherwise."""
    while not holds():
        await asyncio.sleep(0.002)


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 120))
