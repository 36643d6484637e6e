"""Answers to identical requests: a bounded cache, and one computation for those that come at the same time."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Generic, TypeVar

from rakuten.data.preprocess import Product

T = TypeVar("T")


def key_of(version: str, product: Product, *, explain: bool) -> bytes:
    """Equal for two requests if and only if they get the same answer. Cryptographic: nobody can plant an answer."""
    assert product.image is None or isinstance(product.image, bytes)
    digest = blake2b(digest_size=16)
    for field in (version, product.designation, product.description, product.image, str(explain)):
        data = field.encode("utf-8", "surrogatepass") if isinstance(field, str) else field
        digest.update(b"-" if data is None else b"%d:" % len(data))
        digest.update(data or b"")
    return digest.digest()


@dataclass(eq=False)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0


class AnswerCache(Generic[T]):
    """The `size` answers used last, as `keep` leaves them. One event loop's."""

    def __init__(self, size: int, keep: Callable[[T], T] = lambda answer: answer):
        self._size, self._keep = size, keep
        self._answers: OrderedDict[bytes, T] = OrderedDict()
        self._flights: dict[bytes, _Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._answers)

    async def get(self, key: bytes, compute: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """The answer, and whether it cost nothing: kept, or being computed for another request already.

        Failures are shared, not kept. A computation ends when all who wait for it have gone.
        """
        if key in self._answers:
            self._answers.move_to_end(key)
            return self._answers[key], True
        shared = key in self._flights
        if not shared:
            self._flights[key] = _Flight(asyncio.create_task(self._fly(key, compute)))
        flight = self._flights[key]
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task), shared
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                flight.task.cancel()
                self._forget(key, flight)

    async def _fly(self, key: bytes, compute: Callable[[], Coroutine[Any, Any, T]]) -> T:
        flight = self._flights.get(key)
        try:
            answer = await compute()
        finally:
            if flight is not None:
                self._forget(key, flight)
        self._answers[key] = self._keep(answer)
        if len(self._answers) > self._size:
            self._answers.popitem(last=False)
        return answer

    def _forget(self, key: bytes, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:  # a later request may have started anew
            del self._flights[key]
