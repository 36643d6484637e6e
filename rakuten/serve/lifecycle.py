"""How the service ends: not ready any more, what is in flight answered, and only then uvicorn's own way out.

BentoML's supervisor passes SIGTERM on to every worker and waits for them; it starts none anew meanwhile.
"""

import asyncio
import logging
import signal
from typing import Any, Literal

import uvicorn

_LOG = logging.getLogger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOOK_S = 0.02  # how often what is in flight is looked at
_SETTLE_S = 0.1  # for what was accepted and not read yet
_LAST_S = 2.0  # after that, for connections that are left
_CLOSE = (b"connection", b"close")


class Lifecycle:
    """Of one worker: `serving`, then `draining` for `drain_s` (not ready, but answering), then `closing`.

    While it closes it accepts no connections, refuses new requests on those that are open, and gives what is in flight
    `graceful_s`. The same signal once more ends it at once; SIGINT and SIGTERM together do not, for a Ctrl-C brings
    both: the terminal's, and the supervisor's.
    """

    def __init__(self, drain_s: float, graceful_s: float):
        self.drain_s, self.graceful_s = drain_s, graceful_s
        self.state: Literal["serving", "draining", "closing"] = "serving"
        self.in_flight = 0
        self._asked: set[int] = set()
        self._ending: asyncio.Task[None] | None = None
        self._server: uvicorn.Server | None = None

    def install(self) -> None:
        """Take the signals from the uvicorn server that runs in this thread; elsewhere nothing is changed."""
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if not isinstance(server, uvicorn.Server):
            return
        self._server = server
        loop = asyncio.get_running_loop()
        for each in _SIGNALS:
            loop.add_signal_handler(each, self._signalled, each)

    def _signalled(self, number: int) -> None:
        assert self._server is not None
        if number in self._asked:
            _LOG.warning("asked to end once more: %d requests in flight are given up", self.in_flight)
            self._server.config.timeout_graceful_shutdown = 0
            self._server.should_exit = True
        self._asked.add(number)
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end(self._server))

    async def _end(self, server: uvicorn.Server) -> None:
        self.state = "draining"
        _LOG.info("asked to end: not ready any more, %d requests in flight", self.in_flight)
        await asyncio.sleep(self.drain_s)
        for listener in getattr(server, "servers", ()):  # there are none before it has started
            listener.close()  # who connects now waits for another worker: also for one that takes this one's place
        await asyncio.sleep(_SETTLE_S)
        self.state = "closing"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.graceful_s
        while self.in_flight and loop.time() < deadline:
            await asyncio.sleep(_LOOK_S)
        if self.in_flight:
            _LOG.error("%d requests were not answered within %g s", self.in_flight, self.graceful_s)
        server.config.timeout_graceful_shutdown = round(_LAST_S)
        # Not its handle_exit: that would have the process killed by the signal in the end, without an exit code of 0.
        server.should_exit = True


class DrainMiddleware:
    """Counts what is in flight; once the service ends, tells clients to go elsewhere with their next request."""

    def __init__(self, app: Any, lifecycle: Lifecycle):
        self.app, self.lifecycle = app, lifecycle

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.lifecycle.state == "closing":
            await _refuse(scope, receive, send)
            return

        async def send_and_close(message: Any) -> None:
            if message["type"] == "http.response.start" and self.lifecycle.state != "serving":
                message = {**message, "headers": [*message["headers"], _CLOSE]}
            await send(message)

        self.lifecycle.in_flight += 1
        try:
            await self.app(scope, receive, send_and_close)
        finally:
            self.lifecycle.in_flight -= 1


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    from rakuten.serve.problems import NOT_READY, ProblemError

    response = ProblemError(NOT_READY, "the service ends", retry_after_s=5).response(scope["path"])
    response.headers["Connection"] = "close"
    await response(scope, receive, send)
