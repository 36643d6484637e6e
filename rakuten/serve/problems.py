"""Errors as RFC 9457 problem JSON, one shape everywhere."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi.responses import JSONResponse

from rakuten.serve.schema import Mistake, Problem

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """A kind of problem: `name` is its anchor in /docs/problems and its label in the metrics."""

    name: str
    status: int
    title: str


MALFORMED = Kind("malformed", 400, "The body cannot be read")
UNAUTHORIZED = Kind("unauthorized", 401, "An API key is needed")
NOT_FOUND = Kind("not-found", 404, "There is no such page")
METHOD_NOT_ALLOWED = Kind("method-not-allowed", 405, "That page takes another method")
TOO_SLOW = Kind("too-slow", 408, "The request did not arrive in time")
TOO_LARGE = Kind("too-large", 413, "The body is too large")
UNSUPPORTED = Kind("unsupported-media-type", 415, "The body is of another type")
INVALID = Kind("invalid", 422, "The request does not fit the schema")
RATE_LIMITED = Kind("rate-limited", 429, "Too many requests")
INTERNAL = Kind("internal", 500, "The service made a mistake")
OVERLOADED = Kind("overloaded", 503, "More requests than can be answered in time")
NOT_READY = Kind("not-ready", 503, "There is no model to answer")


class ProblemError(Exception):
    """Ends a request; `retry_after_s` becomes the header Retry-After."""

    def __init__(
        self, kind: Kind, detail: str, *, errors: Sequence[Mistake] = (), retry_after_s: float | None = None
    ):
        super().__init__(f"{kind.name}: {detail}")
        self.kind, self.detail, self.errors, self.retry_after_s = kind, detail, list(errors), retry_after_s

    def problem(self, path: str | None = None) -> Problem:
        return Problem(
            type=f"/docs/problems#{self.kind.name}",
            title=self.kind.title,
            status=self.kind.status,
            detail=self.detail,
            instance=path,
            errors=self.errors or None,
        )

    def response(self, path: str | None = None) -> JSONResponse:
        headers = (
            {} if self.retry_after_s is None else {"Retry-After": str(max(1, round(self.retry_after_s)))}
        )
        body = self.problem(path).model_dump(exclude_none=True)
        return JSONResponse(body, self.kind.status, headers, MEDIA_TYPE)
