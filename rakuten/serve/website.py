"""The page at `/`, which asks the published API and nothing else."""

import html
import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from rakuten.serve.settings import RequestLimits

FILES = Path(__file__).with_name("page")
# Asked for each time, sent only where it changed: page and scripts are always of one version.
FRESH = {"Cache-Control": "no-cache"}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TOLD = {"image_bytes", "image_pixels", "text_chars"}  # limits that the page tells before it uploads


def add_website(app: FastAPI, limits: RequestLimits) -> None:
    """Gives an application the page at `/` and its files below `/page`."""
    told = html.escape(json.dumps(limits.model_dump(include=TOLD)))
    text = (
        (FILES / "index.html")
        .read_text(encoding="utf-8")
        .replace('data-limits="{}"', f'data-limits="{told}"')
    )

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(text, headers={**FRESH, "Content-Security-Policy": CSP})

    app.mount("/page", _Fresh(directory=FILES), name="page")


class _Fresh(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(FRESH)
        return response
