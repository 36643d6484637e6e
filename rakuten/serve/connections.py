"""Connections are bounded too: how many, how large a request's head is, how long it takes to come.

uvicorn bounds none of the three, and BentoML makes uvicorn's configuration itself. So its protocol class is
exchanged for a subclass, one object of which is a connection.
"""

import asyncio
import functools
from typing import Any, ClassVar, Final

from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from rakuten.serve.front import SECURITY, Front
from rakuten.serve.problems import HEAD_TOO_LARGE, MALFORMED, OVERLOADED, TOO_SLOW, ProblemError
from rakuten.serve.settings import RequestLimits

HEADERS: Final = 100  # of a request
PIPELINED: Final = 16  # requests of a connection that came before their turn
SWEEPS: Final = 10  # within receive_s, to find who is late
GRACE: Final = 1.5  # of receive_s: a body that is late is refused by Limits, and cut here if it was not
LINGER_S: Final = 1.0  # after a last word, whose reader may still be sending


def guard(front: Front, limits: RequestLimits) -> type[HttpToolsProtocol]:
    """Has every uvicorn server of this process put `front` before its application, and its connections watched."""
    protocol = type("Guarded", (Connection,), {"front": front, "limits": limits, "everyone": set()})
    auto.AutoHTTPProtocol = protocol
    return protocol


class Connection(HttpToolsProtocol):
    """One connection.

    It is late `receive_s` after it was opened, after the first byte of a request whose last has not come, after its
    client stopped reading, and after it was closed with something left to send.
    """

    front: ClassVar[Front]
    limits: ClassVar[RequestLimits]
    everyone: "ClassVar[set[Connection]]"
    is_swept: ClassVar[bool] = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.app = _fronted(self.front, self.app)
        self.ws_protocol_class = None  # there are no websockets here, and theirs is a protocol without limits
        self._in_head = False
        self._head_bytes = self._piece_bytes = (
            0  # what the parser found, and what came while it looked for more
        )
        self._since: float | None = None  # loop time: bytes of the client are awaited
        self._stuck: float | None = None  # loop time: the client is to read, or to close
        self._problem: ProblemError | None = None  # found by a callback of the parser
        self._ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self.everyone.add(self)
        if len(self.everyone) > self.limits.connections:
            self._make_room()
        if not self.is_swept:
            type(self).is_swept = True
            self._sweep_later(self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self.everyone.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ended:  # nothing that still comes is a request
            return
        if self._since is None:
            self._since = self.loop.time()
        if self._in_head:
            self._piece_bytes += len(data)
            if self._piece_bytes > self.limits.head_bytes:
                self._end(self._head_too_large())
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._piece_bytes = 0
        self._since = self.loop.time()
        self.scope["state"]["began_s"] = self._since
        # A piece of 64 KiB may hold thousands, each of which is kept until its turn.
        if len(self.pipeline) >= PIPELINED:
            self._give_up(ProblemError(MALFORMED, f"more than {PIPELINED} requests before their turn"))

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._since = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        self._stuck = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stuck = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's, for what its parser cannot read."""
        self._end(self._problem or ProblemError(MALFORMED, "no request by HTTP/1.1 (RFC 9112)"))

    def _unsupported_upgrade_warning(self) -> None:
        """uvicorn's: a line in the log for each client that tries."""

    def _count(self, num_bytes: int) -> None:
        self._head_bytes += num_bytes
        if len(self.headers) > HEADERS or self._head_bytes > self.limits.head_bytes:
            self._give_up(self._head_too_large())

    def _head_too_large(self) -> ProblemError:
        most = self.limits.head_bytes
        detail = f"at most {HEADERS} headers and {most:,} bytes are taken"
        return ProblemError(HEAD_TOO_LARGE, detail, limit="head_bytes")

    def _give_up(self, problem: ProblemError) -> None:
        self._problem = problem
        raise _UnreadableError

    def _end(self, problem: ProblemError) -> None:
        """Says why, where nothing else is being said, and closes once the client has had time to read it."""
        self._ended = True
        self.front.count(problem)
        half_read = self.cycle is not None and self.cycle.more_body and not self.cycle.response_started
        if (
            half_read
        ):  # its application hears that the client is gone, and what it may say of that is not sent
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if half_read or self.cycle is None or self.cycle.response_complete:
            self.transport.write(_raw(problem))
        self.loop.call_later(LINGER_S, self.transport.close)

    def _make_room(self) -> None:
        """The slowest sender goes, so that nobody keeps others out by opening connections and sending nothing."""
        others = self.everyone - {self}
        sending = [each for each in others if each._since is not None]
        idle = [each for each in others if each.timeout_keep_alive_task is not None]
        if sending:
            min(sending, key=lambda each: each._since or 0.0)._abort()
        elif idle:
            idle[0]._abort()
        else:
            self._end(ProblemError(OVERLOADED, "too many connections", retry_after_s=1, limit="connections"))

    def _abort(self) -> None:
        self.everyone.discard(self)
        self.transport.abort()

    def _check(self, now: float) -> None:
        """Whether it is late, and what then."""
        limit_s = self.limits.receive_s
        if self._stuck is None and self.transport.is_closing():
            self._stuck = now
        owes_answer = self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body)
        waits_s = 0.0 if self._since is None or owes_answer or self.pipeline else now - self._since
        if self._stuck is not None and now - self._stuck > limit_s:
            self._abort()
        elif self._in_head and waits_s > limit_s and not self._ended:
            self._end(
                ProblemError(TOO_SLOW, f"the request did not arrive within {limit_s:g} s", limit="receive_s")
            )
        elif waits_s > GRACE * limit_s or (waits_s > limit_s and self.cycle is None):
            self._abort()

    @classmethod
    def _sweep_later(cls, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(cls.limits.receive_s / SWEEPS, cls._sweep, loop)

    @classmethod
    def _sweep(cls, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for each in list(cls.everyone):
            each._check(now)
        cls.is_swept = bool(cls.everyone)
        if cls.is_swept:
            cls._sweep_later(loop)


class _UnreadableError(Exception):
    """Ends the parsing of a request."""


@functools.lru_cache(maxsize=4)
def _fronted(front: Front, app: Any) -> Any:
    return front.around(app)


def _raw(problem: ProblemError) -> bytes:
    """A whole answer, for a connection that has no request to answer."""
    response = problem.response()
    headers = {**SECURITY, **dict(response.headers), "connection": "close"}
    lines = [f"{name}: {value}".encode("latin-1") for name, value in headers.items()]
    return STATUS_LINE[response.status_code] + b"\r\n".join([*lines, b"", bytes(response.body)])
