"""Bodies are bounded in bytes and time while they arrive, and answers in time, before anything else reads them.

Pure ASGI, around the application and BentoML's own routes alike. What is refused unread is answered at once.
"""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rakuten.serve.problems import OVERLOADED, TOO_LARGE, TOO_SLOW, UNSUPPORTED, ProblemError
from rakuten.serve.settings import RequestLimits

FREE_BYTES: Final = 128 << 10  # of a body that count for nothing in the sum of all: titles are always taken
LINGER_S: Final = 1.0  # a sender that is refused is listened to, or its own reset would tear the answer
CLIENT_GONE: Final = 499  # nginx's word for it, in the metrics and the access log


class Limits:
    """
    Args:
        limits: see conf/serve.yaml.
    """

    def __init__(self, app: ASGIApp, limits: RequestLimits):
        self._app, self._limits = app, limits
        self._buffered_bytes = 0  # of all requests of this process that have not been answered yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (problem := self._refused(Headers(scope=scope))) is not None:
            await refuse(problem, scope, receive, send, self._limits)
            return
        request = _Request(self, self._limits, scope, receive, send)
        try:
            await request.answer(self._app)
        finally:
            self._buffered_bytes -= request.counted_bytes

    def _refused(self, headers: Headers) -> ProblemError | None:
        declared = headers.get("content-length", "0")
        if not declared.isdigit() or int(declared[:20]) > self._limits.body_bytes:
            return too_large(self._limits)
        if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            return ProblemError(UNSUPPORTED, "send the body as it is: Content-Encoding is not taken")
        return None

    def count(self, more_bytes: int) -> None:
        """
        Raises:
            ProblemError: all bodies together would be larger than `buffered_bytes`.
        """
        if self._buffered_bytes + more_bytes > self._limits.buffered_bytes:
            detail = "too many large requests at once"
            raise ProblemError(OVERLOADED, detail, retry_after_s=1, limit="buffered_bytes")
        self._buffered_bytes += more_bytes


class _Request:
    """One request: what of it has come, and whether it has been answered."""

    def __init__(self, all_: Limits, limits: RequestLimits, scope: Scope, receive: Receive, send: Send):
        self._all, self._limits, self._scope = all_, limits, scope
        self._receive, self._send = receive, send
        self.counted_bytes = 0  # in the sum of all
        self._body_bytes = 0
        self._whole = not _has_body(scope)
        self._started = self._over = False
        self._timer = asyncio.timeout(None)
        # The first byte came when the connection says so; without one that does, now.
        began_s = scope.get("state", {}).get("began_s")
        self._deadline = limits.receive_s + (began_s or asyncio.get_running_loop().time())

    async def answer(self, app: ASGIApp) -> None:
        """The application's answer, or that it took too long."""
        limits = self._limits
        try:
            async with self._timer as timer:
                timer.reschedule(asyncio.get_running_loop().time() + limits.receive_s + limits.answer_s)
                await app(self._scope, self.receive, self.send)
        except TimeoutError:
            if not self._started:  # else the server closes the connection
                detail = f"no answer within {limits.answer_s:g} s"
                problem = ProblemError(OVERLOADED, detail, retry_after_s=limits.answer_s, limit="answer_s")
                await problem.answer(self._scope, self.receive, self.send)

    async def receive(self) -> Message:
        """As uvicorn's, within the limits.

        Raises:
            ProblemError: too many bytes, too late, or too much at once.
        """
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            detail = f"the request did not arrive within {self._limits.receive_s:g} s"
            raise ProblemError(TOO_SLOW, detail, limit="receive_s") from None
        if message["type"] != "http.request":
            # BentoML's timer waits for an answer, even where nobody does any more.
            await self._gone()
            return message
        self._took(len(message.get("body", b"")))
        if not message.get("more_body", False):
            self._whole = True
            self._timer.reschedule(asyncio.get_running_loop().time() + self._limits.answer_s)
        return message

    async def send(self, message: Message) -> None:
        if self._over:
            return
        if message["type"] == "http.response.start":
            self._started = True
            if not self._whole:
                message = _closing(message)
        elif not message.get("more_body", False) and not self._whole:
            await _linger(message, self._receive, self._send, self._limits)
            return
        await self._send(message)

    def _took(self, num_bytes: int) -> None:
        self._body_bytes += num_bytes
        if self._body_bytes > self._limits.body_bytes:
            raise too_large(self._limits)
        if (owed := self._body_bytes - FREE_BYTES - self.counted_bytes) > 0:
            self._all.count(owed)
            self.counted_bytes += owed

    async def _gone(self) -> None:
        if not self._started and not self._over:
            await self._send({"type": "http.response.start", "status": CLIENT_GONE, "headers": []})
            await self._send({"type": "http.response.body", "body": b""})
        self._over = True


def too_large(limits: RequestLimits) -> ProblemError:
    detail = f"a body of at most {limits.body_bytes:,} bytes is taken"
    return ProblemError(TOO_LARGE, detail, limit="body_bytes")


async def refuse(
    problem: ProblemError, scope: Scope, receive: Receive, send: Send, limits: RequestLimits
) -> None:
    """Answers a request whose body has not been read, and closes its connection."""

    async def closing(message: Message) -> None:
        if not _has_body(scope):
            await send(message)
        elif message["type"] == "http.response.start":
            await send(_closing(message))
        else:
            await _linger(message, receive, send, limits)

    await problem.answer(scope, receive, closing)


async def _linger(last: Message, receive: Receive, send: Send, limits: RequestLimits) -> None:
    """Sends the last part of an answer, reads a while what the client is still sending, and only then ends."""
    await send({**last, "more_body": True})
    left = limits.body_bytes
    try:
        async with asyncio.timeout(LINGER_S):
            while left > 0:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    break
                left -= len(message.get("body", b""))
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})


def _closing(start: Message) -> Message:
    return {**start, "headers": [*start.get("headers", []), (b"connection", b"close")]}


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" 0"))
        for name, value in scope["headers"]
    )
