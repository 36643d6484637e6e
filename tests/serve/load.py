"""Requests at a service, many at once, and what became of each."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from rakuten.data.preprocess import Product
from rakuten.model.bundle import Predictor

TITLES = [
    f"Piscine ronde {size} cm, pompe et filtre, lot {number}" for number in range(8) for size in range(5)
]


@dataclass(frozen=True)
class Answered:
    """One request; `status` is None where the connection broke."""

    title: str
    sent: float  # time.monotonic()
    received: float
    status: int | None
    body: Any = None

    @property
    def version(self) -> str:
        return str(self.body["model_version"])


async def ask(session: aiohttp.ClientSession, url: str, title: str) -> Answered:
    sent = time.monotonic()
    try:
        async with session.post(f"{url}/predict", json={"designation": title}) as response:
            body = await response.json()
            return Answered(title, sent, time.monotonic(), response.status, body)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return Answered(title, sent, time.monotonic(), None, repr(error))


def session() -> aiohttp.ClientSession:
    """As many connections as it wants."""
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=120)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


async def crowd(url: str, count: int, meanwhile: Callable[[int], None], after: int) -> list[Answered]:
    """`count` requests at once, each of another product; `meanwhile` is called when `after` have been answered."""
    done = 0

    async def one(client: aiohttp.ClientSession, number: int) -> Answered:
        nonlocal done
        answered = await ask(client, url, f"{TITLES[number % len(TITLES)]} no {number}")
        done += 1
        if done == after:
            await asyncio.to_thread(meanwhile, count - done)
        return answered

    async with session() as client:
        return list(await asyncio.gather(*(one(client, number) for number in range(count))))


async def queue_of_clients(
    url: str, clients: int, until: Callable[[list[Answered]], bool]
) -> list[list[Answered]]:
    """Each client asks one thing after another, each time over a connection of its own, until all have seen enough."""
    seen: list[list[Answered]] = [[] for _ in range(clients)]

    async def one(number: int) -> None:
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as client:
            while not until([each for some in seen for each in some]):
                title = TITLES[(number + len(seen[number])) % len(TITLES)]
                seen[number].append(await ask(client, url, title))

    await asyncio.gather(*(one(number) for number in range(clients)))
    return seen


def expected(
    bundles: dict[str, Path], titles: Sequence[str] = TITLES
) -> dict[tuple[str, str], tuple[Any, float]]:
    """Version and title -> the category and confidence that this version's bundle gives."""
    found = {}
    for version, bundle in bundles.items():
        answers = Predictor.load(bundle).predict([Product(title) for title in titles])
        for title, answer in zip(titles, answers, strict=True):
            found[version, title] = (answer.code, answer.confidence)
    return found
