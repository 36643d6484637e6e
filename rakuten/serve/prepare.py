"""A request's texts and photo -> what the towers read, photos in threads of their own."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from rakuten.data.preprocess import Preprocessor, Product
from rakuten.data.text_encoder import Tokens
from rakuten.serve.photos import is_heavy

INLINE_CHARS: Final = (
    2_000  # some 0.5 ms to clean and tokenize; below, changing threads costs more than it frees
)
LATER_S: Final = 0.02
DECAY: Final = 0.95
T = TypeVar("T")


@dataclass(frozen=True)
class CleanText:
    """Title and description after cleaning, and their tokens; None where there are none."""

    title: str
    description: str
    tokens: Tokens | None


class Preparation:
    """A pool of threads: never more photos are decoded at once than it has, the others wait in their order."""

    def __init__(self, threads: int = 0):
        """`threads=0`: one a core that this process may use."""
        self._threads = threads or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="prepare")
        self._photos, self._photo_s = 0, 0.0
        self._counting, self._later = threading.Lock(), 0
        self._heavy = asyncio.Lock()

    @property
    def wait_s(self) -> float:
        """How long a photo that comes now is likely to wait for its thread and be decoded."""
        return self._photo_s * (1 + self._photos / self._threads)

    async def text(self, preprocessor: Preprocessor, product: Product) -> CleanText:
        size = len(product.designation or "") + len(product.description or "")
        if size <= INLINE_CHARS:
            return read_text(preprocessor, product)
        return await asyncio.get_running_loop().run_in_executor(self._pool, read_text, preprocessor, product)

    async def pixels(self, preprocessor: Preprocessor, image: bytes) -> NDArray[np.uint8]:
        """
        Raises:
            DataError: the photo cannot be decoded.
        """
        if is_heavy(image):  # not in the way of the others, nor in the mean of their times
            async with self._heavy:
                return await self.run(preprocessor.pixels, image)
        self._photos += 1
        try:
            pixels, seconds = await asyncio.get_running_loop().run_in_executor(
                self._pool, _timed, preprocessor.pixels, image
            )
        finally:
            self._photos -= 1
        self._photo_s = DECAY * self._photo_s + (1 - DECAY) * seconds if self._photo_s else seconds
        return pixels

    def later(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        """What no answer waits for: a moment later, so that it does not hold the interpreter while answers go out."""
        future: Future[T] = Future()
        with self._counting:
            self._later += 1
        asyncio.get_running_loop().call_later(
            LATER_S, self._pool.submit, self._finish, future, function, arguments
        )
        return future

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def aclose(self) -> None:
        """End what has begun and what waits."""
        while self._later:
            await asyncio.sleep(LATER_S)
        await asyncio.to_thread(self._pool.shutdown)

    def _finish(self, future: "Future[T]", function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        finally:
            with self._counting:
                self._later -= 1


def read_text(preprocessor: Preprocessor, product: Product) -> CleanText:
    title, description = preprocessor.clean(product.designation), preprocessor.clean(product.description)
    [tokens] = preprocessor.tokens([title], [description])
    return CleanText(title, description, tokens)


def _timed(function: Callable[[bytes], T], argument: bytes) -> tuple[T, float]:
    started = time.monotonic()
    result = function(argument)
    return result, time.monotonic() - started
