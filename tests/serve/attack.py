"""Two clients, each in a process of its own: one sends the hostile corpus, the other what a shop would send.

`python -m tests.serve.attack attack URL COUNT WINDOWS` makes a window's requests and says `ready`; a line on its stdin
has them sent, and it says `sent`. In the end it says in JSON what came of all. `... attack healthy URL` says `ready`,
asks between the lines `go` and `stop`, and then says in JSON how long each answer took.
"""

import asyncio
import collections
import json
import os
import random
import re
import sys
import time
from collections.abc import Coroutine
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.serve.hostile import Shot, from_schema, own, title
from tests.serve.wire import photo

ATTACK_RATE = 100  # a second
AT_ONCE = 24  # that are to be answered, and
SLOW_AT_ONCE = 250  # connections that are held by intent
SILENCE_S = 20.0
SHARE_FROM_SCHEMA = 0.15
HEALTHY_RATE = 20  # a second
Tasks = set[asyncio.Task[None]]


class Attack:
    def __init__(self, url: str, count: int):
        where = urlsplit(url)
        self._host, self._port = where.hostname, where.port
        self._rng = random.Random(20261124)
        self._by_schema = from_schema(url, int(count * SHARE_FROM_SCHEMA))
        self._rng.shuffle(self._by_schema)
        self._own = own(self._rng)
        self._slow: Tasks = set()
        self._found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def load(self, number: int) -> list[Shot]:
        """The next ones, made before they are sent."""
        share = min(len(self._by_schema), int(SHARE_FROM_SCHEMA * number))
        by_schema = [self._by_schema.pop() for _ in range(share)]
        shots = [*by_schema, *islice(self._own, number - share)]
        self._rng.shuffle(shots)
        return shots

    async def send(self, shots: list[Shot]) -> None:
        """At a steady rate. All but the slow ones have their answer when this ends."""
        turn = asyncio.Semaphore(AT_ONCE)
        under_way: Tasks = set()
        began = time.perf_counter()
        for number, shot in enumerate(shots):
            await asyncio.sleep(max(0.0, began + number / ATTACK_RATE - time.perf_counter()))
            if shot.is_slow:
                while len(self._slow) >= SLOW_AT_ONCE:
                    await asyncio.sleep(0.05)
                _start(self._slow, self._shoot(shot))
            else:
                await turn.acquire()
                _start(under_way, self._shoot(shot)).add_done_callback(lambda _: turn.release())
        await asyncio.gather(*under_way)

    async def finish(self) -> dict[str, dict[str, int]]:
        """By kind, how often each answer came."""
        await asyncio.gather(*self._slow)
        return {kind: dict(answers) for kind, answers in sorted(self._found.items())}

    async def _shoot(self, shot: Shot) -> None:
        for answer in await self._answers(shot):
            self._found[shot.kind][answer] += 1

    async def _answers(self, shot: Shot) -> list[str]:
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        except OSError as error:
            return [f"not connected: {type(error).__name__}"]
        raw, end = b"", "closed"
        try:
            for piece in shot.pieces:
                writer.write(piece)
                await asyncio.wait_for(writer.drain(), SILENCE_S)
                await asyncio.sleep(shot.pause_s)
        except (OSError, TimeoutError):  # it listens no more: perhaps it has spoken
            pass
        try:
            while shot.reads and (piece := await asyncio.wait_for(reader.read(1 << 16), SILENCE_S)):
                raw += piece
        except TimeoutError:
            end = "silence"
        except OSError:
            pass
        writer.transport.abort()
        return _statuses(raw) or [end if shot.reads else "left"]


class Healthy:
    def __init__(self, url: str):
        self._url, self._rng, self._number = url, random.Random(7), 0
        self._photos = [photo(side_px=250, seed=number, quality=85) for number in range(20)]

    async def ask(self, stop: asyncio.Event) -> dict[str, Any]:
        """Open loop: each request at its time, whatever became of those before; its latency counts from then."""
        took: list[float] = []
        statuses: collections.Counter[str] = collections.Counter()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            due, tasks = time.perf_counter(), set[asyncio.Task[None]]()
            while not stop.is_set():
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                _start(tasks, self._one(session, due, took, statuses))
                due += 1 / HEALTHY_RATE
            await asyncio.gather(*tasks)
        return {"seconds": took, "statuses": dict(statuses)}

    async def _one(
        self,
        session: aiohttp.ClientSession,
        due: float,
        took: list[float],
        statuses: "collections.Counter[str]",
    ) -> None:
        self._number += 1
        text = f"{title(self._rng)} {self._number}"
        if self._number % 4:
            sent: dict[str, Any] = {"json": {"designation": text, "description": title(self._rng)}}
        else:
            data = aiohttp.FormData()
            data.add_field("designation", text)
            data.add_field("image", self._rng.choice(self._photos), filename="photo.jpg")
            sent = {"data": data}
        try:
            async with session.post(f"{self._url}/predict", **sent) as response:
                await response.read()
                statuses[str(response.status)] += 1
        except aiohttp.ClientError as error:
            statuses[type(error).__name__] += 1
        took.append(time.perf_counter() - due)


def _statuses(raw: bytes) -> list[str]:
    """Of each answer; a 503 is deliberate where it is a problem that says when to come again."""
    found = []
    for each in re.split(rb"HTTP/1\.1 (?=\d{3} )", raw)[1:]:
        status = each[:3].decode()
        meant = b"problem+json" in each and b"retry-after" in each.lower()
        found.append("503 without a reason" if status == "503" and not meant else status)
    return [status for status in found if status != "100"]


def _start(group: Tasks, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    task = asyncio.get_running_loop().create_task(work)
    group.add(task)
    task.add_done_callback(group.discard)
    return task


async def _line() -> str:
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


def _say(text: str) -> None:
    print(text, flush=True)


async def attack(url: str, count: int, windows: int) -> None:
    client = Attack(url, count)
    for _ in range(windows):
        shots = client.load(count // windows)
        _say("ready")
        await _line()
        await client.send(shots)
        _say("sent")
    _say(json.dumps(await client.finish()))


async def healthy(url: str) -> None:
    client = Healthy(url)
    _say("ready")
    while await _line() == "go":
        stop = asyncio.Event()
        asking = asyncio.create_task(client.ask(stop))
        await _line()
        stop.set()
        _say(json.dumps(await asking))


if __name__ == "__main__":
    os.nice(5 if sys.argv[1] == "attack" else 0)  # its own work is not to take the service's time
    asyncio.run(
        attack(sys.argv[2], *map(int, sys.argv[3:])) if sys.argv[1] == "attack" else healthy(sys.argv[2])
    )
