"""Errors as RFC 9457 problem JSON, one shape everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from rakuten.serve.schema import Mistake, Problem

MEDIA_TYPE: Final = "application/problem+json"
PATH_CHARS: Final = 256  # of a request's path, in an answer
MISTAKES: Final = 10  # of a request's, in an answer
FIELD_CHARS: Final = 64  # of a field's name, which may be the request's own


@dataclass(frozen=True)
class Kind:
    """A kind of problem: `name` is its anchor in /docs/problems and its label in the metrics."""

    name: str
    status: int
    title: str
    cure: str = ""  # what to do about it, for /docs/problems


MALFORMED = Kind(
    "malformed",
    400,
    "The request cannot be read",
    "Send HTTP/1.1 with a body that is JSON in UTF-8, or well-formed multipart/form-data.",
)
UNAUTHORIZED = Kind(
    "unauthorized",
    401,
    "An API key is needed",
    "Send `Authorization: Bearer KEY` or `X-API-Key: KEY` with a key that the service knows.",
)
NOT_FOUND = Kind("not-found", 404, "There is no such page", "See /docs for what there is.")
METHOD_NOT_ALLOWED = Kind(
    "method-not-allowed", 405, "That page takes another method", "The header Allow says which."
)
TOO_SLOW = Kind(
    "too-slow", 408, "The request did not arrive in time", "Send the whole request at once; try again."
)
TOO_LARGE = Kind(
    "too-large", 413, "The request is too large", "Send smaller photos, or a batch in several parts."
)
UNSUPPORTED = Kind(
    "unsupported-media-type",
    415,
    "The body is of another type",
    "Send application/json or multipart/form-data, not compressed.",
)
INVALID = Kind(
    "invalid", 422, "The request does not fit the schema", "`errors` says field by field what does not fit."
)
RATE_LIMITED = Kind(
    "rate-limited", 429, "Too many requests", "Wait the seconds that the header Retry-After says."
)
HEAD_TOO_LARGE = Kind(
    "head-too-large", 431, "The request's head is too large", "Send fewer, shorter headers."
)
INTERNAL = Kind(
    "internal", 500, "The service made a mistake", "The service's log says where; tell whoever runs it."
)
OVERLOADED = Kind(
    "overloaded",
    503,
    "More requests than can be answered in time",
    "Wait the seconds that the header Retry-After says, then try again.",
)
NOT_READY = Kind(
    "not-ready", 503, "There is no model to answer", "Promote one: python scripts/promote.py; or wait for it."
)
KINDS: Final = (
    MALFORMED,
    UNAUTHORIZED,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    TOO_SLOW,
    TOO_LARGE,
    UNSUPPORTED,
    INVALID,
    RATE_LIMITED,
    HEAD_TOO_LARGE,
    INTERNAL,
    OVERLOADED,
    NOT_READY,
)


def kind_of(status: int) -> Kind:
    """The kind that speaks for an HTTP status that somebody else answered with."""
    return next((kind for kind in KINDS if kind.status == status), INTERNAL if status >= 500 else MALFORMED)


def invalid(*mistakes: tuple[str, str], limit: str | None = None) -> "ProblemError":
    """The problem of a request whose fields do not fit: (field, what is wrong) each."""
    shown = mistakes[:MISTAKES]
    errors = [Mistake(field=field[:FIELD_CHARS], detail=detail) for field, detail in shown]
    more = f" and {len(mistakes) - len(shown)} more" if len(mistakes) > len(shown) else ""
    detail = "; ".join(f"{each.field}: {each.detail}" for each in errors) + more
    return ProblemError(INVALID, detail, errors=errors, limit=limit)


class ProblemError(Exception):
    """Ends a request; `retry_after_s` becomes the header Retry-After."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Sequence[Mistake] = (),
        retry_after_s: float | None = None,
        limit: str | None = None,
        allow: str | None = None,
    ):
        """
        Args:
            limit: the setting that was exceeded, for the metrics.
            allow: the header Allow of a 405.
        """
        super().__init__(f"{kind.name}: {detail}")
        self.kind, self.detail, self.errors, self.retry_after_s = kind, detail, list(errors), retry_after_s
        self.limit, self.allow = limit, allow

    def problem(self, path: str | None = None) -> Problem:
        return Problem(
            type=f"/docs/problems#{self.kind.name}",
            title=self.kind.title,
            status=self.kind.status,
            detail=self.detail,
            instance=None if path is None else path[:PATH_CHARS],
            errors=self.errors or None,
        )

    def response(self, path: str | None = None) -> JSONResponse:
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after_s)))
        if self.allow is not None:
            headers["Allow"] = self.allow
        if self.kind is UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 asks for it
        body = self.problem(path).model_dump(exclude_none=True)
        return JSONResponse(body, self.kind.status, headers, MEDIA_TYPE)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The request's answer, and in its state what was wrong, for who counts."""
        scope.setdefault("state", {})["problem"] = self
        await self.response(scope["path"])(scope, receive, send)
