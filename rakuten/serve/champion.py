"""Which model answers: the published champion, followed and swapped beneath the requests."""

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from rakuten.errors import RakutenError
from rakuten.serve.follow.group import Group
from rakuten.serve.follow.place import AwayError, Found, Place
from rakuten.serve.loading import Load
from rakuten.serve.served import Served

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class Watcher(Protocol):
    """Whoever counts what becomes of champions; called from the event loop."""

    def serves(self, version: str, load_s: float) -> None: ...

    def refused(self) -> None: ...


class Champion:
    """The source of an engine: `current` is replaced by one assignment, once the new model is loaded, checked and warm.

    What is published badly (torn, changed, of another format, without room) is refused in one line, by all workers, and
    not tried again until something else is published. Meanwhile, and while the place is away, the last good one answers.
    """

    def __init__(
        self, place: Place, load: Load, group: Group, *, poll_s: float, watcher: Watcher | None = None
    ):
        self.current: Served | None = None
        self.problem: str | None = "the champion is being loaded"  # for clients: without hashes and the like
        self._told = ""  # what was logged last
        self._place, self._load, self._group = place, load, group
        self._poll_s, self._watcher = poll_s, watcher
        self._seen: str | None = None  # the key of what was loaded or refused last
        self._answers: str | None = None  # the key of what answers
        self._away = False
        self._asked = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="champion")
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load what is published, and follow from then on. Where there is no good one `current` is None: no error."""
        served = self._group.served()
        if served is not None:
            await self._change(*served, alone=True)
        await self.look()
        self._following = asyncio.create_task(self._follow())

    def ask(self) -> None:
        """Look at once."""
        self._asked.set()

    async def aclose(self) -> None:
        if self._following is not None:
            self._following.cancel()
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def look(self) -> None:
        """Swap to what is published, if it is another one and good."""
        found = await self._newest()
        if found is None or found.key == self._seen:
            if found is not None and found.key == self._answers:
                self.problem, self._told = None, ""
            return
        try:
            folder = await self._in_thread(lambda: self._place.bring(found))
        except AwayError as error:
            self._is_away(error)
        except RakutenError as error:
            self._refuse(found, error)
        else:
            await self._change(found, folder, alone=self.current is None)

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._poll_s)
            self._asked.clear()
            try:
                await self.look()
            except Exception:  # ours to mend, and no reason to stop answering or following
                _LOG.exception("the champion could not be looked for")

    async def _newest(self) -> Found | None:
        try:
            found = await self._in_thread(self._place.newest)
        except AwayError as error:
            self._is_away(error)
            return None if self.current is not None else await self._in_thread(self._place.last)
        except RakutenError as error:
            self._is_back()
            self._say("", error)
            return None
        self._is_back()
        return found

    async def _change(self, found: Found, folder: Path, *, alone: bool) -> None:
        started = time.monotonic()
        try:
            served = await self._in_thread(lambda: self._load(found, folder))
        except Exception as error:  # what a torn bundle makes a library raise is not foreseen
            self._refuse(found, error)
            return
        seconds = time.monotonic() - started
        if not alone and not await self._group.agree(found):
            self._refuse(found, RakutenError("another worker refused it"))
            return
        before = self.current
        self.current = served
        self._seen = self._answers = found.key
        self.problem, self._told = None, ""
        self._group.swapped(found, folder)
        after = "" if before is None else f", after {before.version}"
        _LOG.info("version %s answers%s: %s, loaded in %.1f s", served.version, after, found.where, seconds)
        if self._watcher is not None:
            self._watcher.serves(served.version, seconds)
        del served, before
        await self._in_thread(lambda: self._settle(found))

    def _settle(self, found: Found) -> None:
        self._place.remember(found)
        gc.unfreeze()
        gc.collect()  # the old one, unless a request still holds it
        # What stays is never looked through again: with torch loaded that would stop every answer for half a second.
        gc.freeze()

    def _refuse(self, found: Found, error: Exception) -> None:
        self._seen = found.key
        self._group.refuse(found)
        goes_on = "nothing answers" if self.current is None else f"version {self.current.version} goes on"
        self._say(f"version {found.version} of {found.where} is refused, {goes_on}: ", error)
        if self._watcher is not None:
            self._watcher.refused()

    def _is_away(self, error: AwayError) -> None:
        if not self._away:
            self._say("", error)
        self._away = True

    def _is_back(self) -> None:
        if self._away:
            _LOG.info("the champion can be looked for again")
        self._away = False

    def _say(self, what: str, error: Exception) -> None:
        """Once, and in short to whoever asks after the service's health."""
        line = what + one_line(error)
        if line != self._told:
            _LOG.error("%s", line)
        self._told = line
        self.problem = what + str(getattr(error, "problem", type(error).__name__))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def one_line(error: Exception) -> str:
    if isinstance(error, RakutenError):
        return "; ".join(line.strip() for line in str(error).splitlines())
    said = " ".join(str(error).split())[:300]
    return f"{type(error).__name__} {said}".strip()
