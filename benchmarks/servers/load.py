"""Load from a process of its own: requests come when they come, whether or not the last ones are answered."""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import numpy as np

GIVE_UP_S = 10.0
REFUSED_S = 0.2


@dataclass(frozen=True)
class Sent:
    """One request: when it came, s after the start, how long its answer took, ms, and its status; 0: no answer."""

    at_s: float
    ms: float
    status: int


async def open_loop(url: str, bodies: list[bytes], rate: float, seconds: float, seed: int) -> list[Sent]:
    """Poisson arrivals at `rate` a second. The clock of a request starts when it comes, not when it is sent."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(2 * rate * seconds) + 20)
    arrivals = [at for at in np.cumsum(gaps).tolist() if at < seconds]
    async with _session() as session:
        start = time.monotonic()

        async def send(at: float, body: bytes) -> Sent:
            status = await _post(session, url, body)
            return Sent(at, 1000 * (time.monotonic() - start - at), status)

        tasks = []
        for number, at in enumerate(arrivals):
            await asyncio.sleep(max(0.0, start + at - time.monotonic()))
            tasks.append(asyncio.create_task(send(at, bodies[number % len(bodies)])))
        return list(await asyncio.gather(*tasks))


async def closed_loop(url: str, bodies: list[bytes], clients: int, seconds: float) -> list[Sent]:
    """`clients` that each send the next request when the last is answered: how much a server can do at the most."""
    async with _session() as session:
        start = time.monotonic()
        waiting = iter(range(10**9))
        found: list[Sent] = []

        async def client() -> None:
            while (began := time.monotonic()) - start < seconds:
                status = await _post(session, url, bodies[next(waiting) % len(bodies)])
                found.append(Sent(began - start, 1000 * (time.monotonic() - began), status))
                if status != 200:  # whoever was refused does not come back at once
                    await asyncio.sleep(REFUSED_S)

        await asyncio.gather(*(client() for _ in range(clients)))
        return found


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=GIVE_UP_S)
    )


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> int:
    try:
        async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
            await response.read()
            return response.status
    except (aiohttp.ClientError, TimeoutError):
        return 0


def main() -> None:
    """URL BODIES open RATE SECONDS SEED, or URL BODIES closed CLIENTS SECONDS: prints what was sent as JSON."""
    url, path, kind, *numbers = sys.argv[1:]
    bodies = Path(path).read_bytes().split(b"\n")
    values = [float(number) for number in numbers]
    if kind == "open":
        sent = asyncio.run(open_loop(url, bodies, values[0], values[1], int(values[2])))
    else:
        sent = asyncio.run(closed_loop(url, bodies, int(values[0]), values[1]))
    print(json.dumps([asdict(each) for each in sent]))


if __name__ == "__main__":
    main()
