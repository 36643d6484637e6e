"""Who may ask, and how often. Keys are known by their SHA-256 alone; without any, anybody may ask."""

import hashlib
import hmac
import ipaddress
import logging
import socket
import sys
import time
from collections import OrderedDict
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from rakuten.serve.limits import refuse
from rakuten.serve.problems import RATE_LIMITED, UNAUTHORIZED, ProblemError
from rakuten.serve.settings import ServeSettings, split_keys

# Without a key: what watches over the process, and what says nothing of the catalogue and its traffic.
OPEN: Final = {"/", "/livez", "/readyz", "/healthz", "/health", "/docs", "/openapi.json"}
OPEN_BELOW: Final = ("/page/", "/docs/")
CLIENTS: Final = 10_000  # whose rates are remembered
_STATE: Final = "key_name"  # in scope["state"]
_LOG = logging.getLogger("bentoml.rakuten")  # BentoML shows warnings alone of any other


def hash_key(key: str) -> str:
    """What is kept of a key. Plain SHA-256 is enough for 256 random bits, which nobody tries out."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def key_name(scope: Scope) -> str | None:
    """Of the key that a request came with, for the log; None where there are no keys."""
    name: str | None = scope.get("state", {}).get(_STATE)
    return name


class Doorkeeper:
    """ASGI middleware: a key where keys are set, and no more than `rate_limit` requests a second of each.

    Without keys the rate is that of an address. Every worker process counts for itself.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings):
        self._app, self._limits = app, settings.limits
        self._names = [tuple(each.split(":")) for each in split_keys(settings.api_keys)]
        self._buckets = Buckets(settings.rate_limit, settings.rate_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope):
            name = None
            try:
                name = self._name(Headers(scope=scope))
                client = scope.get("client") or ("", 0)
                self._buckets.take(name or client[0])
            except ProblemError as problem:
                scope.setdefault("state", {})[_STATE] = name
                await refuse(problem, scope, receive, send, self._limits)
                return
            scope.setdefault("state", {})[_STATE] = name
        await self._app(scope, receive, send)

    def _name(self, headers: Headers) -> str | None:
        """The key's name; None where no keys are set.

        Raises:
            ProblemError: no key, or one that nobody knows.
        """
        if not self._names:
            return None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        given, found = hash_key(key), None
        for name, known in self._names:  # all of them, so that the time says nothing
            if hmac.compare_digest(given, known):
                found = name
        if found is None:
            raise ProblemError(UNAUTHORIZED, "the key is not known" if key else "no key came")
        return found


class Buckets:
    """A token bucket for each client: `rate` requests a second in the long run, `burst` at once; rate 0 limits nobody."""

    def __init__(self, rate: float, burst: int):
        self._rate, self._burst = rate, burst
        self._filled: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> tokens, and when

    def take(self, client: str) -> None:
        """
        Raises:
            ProblemError: the client's bucket is empty.
        """
        if not self._rate:
            return
        now = time.monotonic()
        tokens, then = self._filled.pop(client, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        allowed = tokens >= 1
        self._filled[client] = (tokens - allowed, now)
        if len(self._filled) > CLIENTS:
            self._filled.popitem(last=False)
        if not allowed:
            raise ProblemError(
                RATE_LIMITED,
                f"at most {self._rate:g} requests a second",
                retry_after_s=(1 - tokens) / self._rate,
            )


def announce(settings: ServeSettings) -> None:
    """Says in the log, loudly, that anybody may ask, where that is so."""
    if settings.api_keys:
        return
    address = _listening_on()
    if address is not None and ipaddress.ip_address(address).is_loopback:
        _LOG.warning(
            "NO API KEYS: whoever is on this machine (%s) may ask. See api_keys in conf/serve.yaml", address
        )
        return
    _LOG.warning(
        "NO API KEYS, AND NOT ON LOOPBACK (%s): ANYBODY WHO REACHES THIS PORT MAY ASK. "
        "Set RAKUTEN_SERVE_API_KEYS (python -m rakuten.serve.keys NAME), or serve on 127.0.0.1",
        address or "address unknown",
    )


def _listening_on() -> str | None:
    """The address of the socket that BentoML's supervisor handed to this worker: `--fd NUMBER` among its arguments."""
    try:
        number = int(sys.argv[sys.argv.index("--fd") + 1])
        with socket.socket(fileno=socket.dup(number)) as listening:
            return str(listening.getsockname()[0])
    except (ValueError, IndexError, OSError):
        return None


def _is_open(scope: Scope) -> bool:
    path = scope["path"]
    return scope["method"] == "OPTIONS" or path in OPEN or path.startswith(OPEN_BELOW)
