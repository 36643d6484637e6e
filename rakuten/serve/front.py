"""The outermost layer, before BentoML's own: only pages that are there, readable heads, and one kind of error.

BentoML's middlewares label their metrics with the path as it came, which anybody could make without end, and fail on
headers that are no text. What comes through here does neither. What goes out carries security headers, and every
error, whoever made it, is a problem.
"""

import logging
import re
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rakuten.serve.limits import CLIENT_GONE, refuse
from rakuten.serve.problems import (
    INTERNAL,
    MALFORMED,
    MEDIA_TYPE,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    RATE_LIMITED,
    ProblemError,
    kind_of,
)
from rakuten.serve.security import key_name
from rakuten.serve.settings import RequestLimits

if TYPE_CHECKING:
    from rakuten.monitor.collectors import RequestMetrics

BENTOML: Final = ("/livez", "/readyz", "/healthz", "/metrics", "/schema.json")
METHODS: Final = ("GET", "HEAD", "POST", "OPTIONS")  # that the metrics tell apart
CONTENT_TYPE: Final = re.compile(rb"[\x20-\x7e]{0,256}")  # it stands in the access log
SECURITY: Final = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",  # pages bring their own
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_KEPT: Final = (
    "allow",
    "retry-after",
    "www-authenticate",
    "connection",
)  # of an error that somebody else made
_LOG = logging.getLogger("bentoml.rakuten")


class Front:
    """
    Args:
        limits: see conf/serve.yaml.
    """

    def __init__(self, limits: RequestLimits):
        self._limits = limits
        self._pages: frozenset[str] = frozenset(BENTOML)
        self.metrics: RequestMetrics | None = None

    def open(self, app: Starlette, metrics: "RequestMetrics | None" = None) -> None:
        """Lets through what an application has pages for, beside BentoML's, and counts what comes."""
        self._pages = frozenset((*BENTOML, *_pages(app)))
        self.metrics = metrics

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application behind this front."""

        async def fronted(scope: Scope, receive: Receive, send: Send) -> None:
            await self._counted(app, scope, receive, send)

        return fronted

    async def _counted(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        answer, began = _Answer(scope["path"], send), time.perf_counter()
        if self.metrics is None:
            await self._answer(app, scope, receive, answer)
            return
        with self.metrics.in_flight.track_inprogress():
            await self._answer(app, scope, receive, answer)
        route = self._route(scope["path"])
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.total.labels(route, method, str(answer.status)).inc()
        self.metrics.seconds.labels(route).observe(time.perf_counter() - began)
        if (problem := scope.get("state", {}).get("problem")) is not None:
            self.count(problem, key_name(scope))

    def count(self, problem: ProblemError, name: str | None = None) -> None:
        """One more of its kind."""
        if self.metrics is None:
            return
        self.metrics.errors.labels(problem.kind.name).inc()
        if problem.limit is not None:
            self.metrics.rejected.labels(problem.limit).inc()
        if problem.kind is RATE_LIMITED:
            self.metrics.rate_limited.labels(name or "").inc()

    def _route(self, path: str) -> str:
        if path not in self._pages:
            return "other"
        return path if path.count("/") == 1 else path[: path.index("/", 1)]

    async def _answer(self, app: ASGIApp, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        if (problem := self._refused(scope)) is not None:
            await refuse(problem, scope, receive, answer.send, self._limits)
            return
        if scope["method"] == "HEAD":  # as GET; the server leaves the body out
            scope = {**scope, "method": "GET"}
        try:
            await app(scope, receive, answer.send)
        except Exception as error:
            tell("an answer failed", error)
            if answer.status == CLIENT_GONE:
                problem = ProblemError(INTERNAL, "the service's log says where")
                await problem.answer(scope, receive, answer.send)

    def _refused(self, scope: Scope) -> ProblemError | None:
        if scope["path"] not in self._pages:
            return ProblemError(NOT_FOUND, "see /docs for what there is")
        if scope["path"] in BENTOML and scope["method"] not in (
            "GET",
            "HEAD",
        ):  # else the application has it: 404
            return ProblemError(METHOD_NOT_ALLOWED, "GET is taken", allow="GET, HEAD")
        if not scope["query_string"].isascii():
            return ProblemError(MALFORMED, "the query is not percent-encoded")
        for name, value in scope["headers"]:
            if name == b"content-type" and not CONTENT_TYPE.fullmatch(value):
                return ProblemError(MALFORMED, "Content-Type is no media type")
            if not value.isascii() and not _is_utf8(value):
                return ProblemError(MALFORMED, "a header is not in UTF-8")
        return None


def _pages(app: Starlette) -> Iterator[str]:
    """Every path that the application answers; of folders, that of each file."""
    for route in app.routes:
        if isinstance(route, Route):
            yield route.path
        elif isinstance(route, Mount) and isinstance(route.app, StaticFiles):
            for folder in route.app.all_directories:
                yield from (f"{route.path}/{each.name}" for each in Path(folder).iterdir() if each.is_file())


class _Answer:
    """What goes out: with security headers, and with a problem in the place of anybody else's error."""

    def __init__(self, path: str, send: Send):
        self._path, self._send = path, send
        self.status = CLIENT_GONE  # until it is known
        self._instead: bytes | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            await self._send(self._begun(message))
        elif self._instead is None:
            await self._send(message)
        else:
            more = message.get("more_body", False)
            body, self._instead = self._instead, b""
            await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def _begun(self, message: Message) -> Message:
        status, headers = message["status"], MutableHeaders(raw=list(message.get("headers", [])))
        if status >= 400 and status != CLIENT_GONE and headers.get("content-type") != MEDIA_TYPE:
            problem = ProblemError(kind_of(status), kind_of(status).cure).response(self._path)
            self._instead = bytes(problem.body)
            kept = {name: headers[name] for name in _KEPT if name in headers}
            headers = MutableHeaders(headers={**dict(problem.headers), **kept})
        for name, value in SECURITY.items():
            headers.setdefault(name, value)
        return {**message, "status": status, "headers": headers.raw}


def tell(what: str, error: BaseException) -> None:
    """An exception in the log, by its type and place. Its text is left out: it may be a customer's."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " > ".join(
        f"{each.filename.rpartition('/')[2]}:{each.lineno} {each.name}" for each in frames[-8:]
    )
    _LOG.error("%s: %s at %s", what, type(error).__name__, places)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
