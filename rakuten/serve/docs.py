"""/docs, /docs/problems and /openapi.json: the published API, with assets of its own and nothing from elsewhere."""

import html
from pathlib import Path
from typing import Any, Final

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from pydantic.json_schema import models_json_schema

from rakuten.serve import problems
from rakuten.serve.problems import KINDS, MEDIA_TYPE, Kind
from rakuten.serve.schema import Batch, Feedback, Item, Problem
from rakuten.serve.settings import ServeSettings

ASSETS: Final = Path(fastapi_offline.__file__).with_name("static")
OURS: Final = Path(__file__).with_name("docs_page")
VERSION: Final = "1"  # of the API
# Swagger UI writes style attributes and draws its icons from data: addresses.
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {"Content-Security-Policy": CSP, "Cache-Control": "no-cache"}
_REFS: Final = "#/components/schemas/{model}"
_READ: Final = (problems.MALFORMED, problems.UNAUTHORIZED, problems.RATE_LIMITED, problems.HEAD_TOO_LARGE)
_WRITE: Final = (problems.TOO_SLOW, problems.TOO_LARGE, problems.UNSUPPORTED, problems.INVALID)
_OPEN: Final = {"/health", "/livez", "/readyz", "/healthz"}
_TITLE: Final = "Piscine gonflable ronde 3 m"


def add_docs(app: FastAPI, settings: ServeSettings) -> None:
    """Gives an application its description, as a page and as JSON."""
    described = JSONResponse(openapi(app, settings)).body

    @app.get("/openapi.json", include_in_schema=False)
    async def schema() -> Response:
        return Response(described, media_type="application/json", headers={"Cache-Control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(OURS / "index.html", headers=_HEADERS)

    @app.get("/docs/problems", include_in_schema=False)
    async def described_problems() -> Response:
        return HTMLResponse(problems_page(), headers=_HEADERS)

    for name, folder in (
        ("swagger-ui.css", ASSETS),
        ("swagger-ui-bundle.js", ASSETS),
        ("favicon.png", ASSETS),
        ("start.js", OURS),
        ("docs.css", OURS),
    ):
        _add_file(app, f"/docs/{name}", folder / name)


def _add_file(app: FastAPI, path: str, file: Path) -> None:
    @app.get(path, include_in_schema=False)
    async def asset() -> Response:
        return FileResponse(file, headers={"Cache-Control": "public, max-age=3600"})


def problems_page() -> str:
    """What each kind of problem means and what to do: where their `type` leads."""
    page = (OURS / "problems.html").read_text(encoding="utf-8")
    return page.replace("<!-- kinds -->", "\n".join(map(_described, KINDS)))


def _described(kind: Kind) -> str:
    title, cure = html.escape(kind.title), html.escape(kind.cure)
    return f'<section id="{kind.name}"><h2>{kind.status} {title}</h2><p>{cure}</p></section>'


def openapi(app: FastAPI, settings: ServeSettings) -> dict[str, Any]:
    """The published schema: what FastAPI knows of the routes, the bodies that they read, and every problem."""
    found = get_openapi(
        title="rakuten",
        version=VERSION,
        summary="Sorts shop products into categories from a French title, a description and a photo.",
        description="Errors are problem JSON (RFC 9457): [what each means](/docs/problems).",
        routes=app.routes,
    )
    _, definitions = models_json_schema(
        [(model, "validation") for model in (Item, Batch, Feedback, Problem)], ref_template=_REFS
    )
    schemas = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas.update(definitions["$defs"])
    _bound(schemas, settings)
    paths = found["paths"]
    paths["/predict"]["post"]["requestBody"] = _body(_ref("Item"), _EXAMPLES, form=_form(schemas["Item"]))
    paths["/predict_batch"]["post"]["requestBody"] = _body(_ref("Batch"), _BATCH)
    paths["/feedback"]["post"]["requestBody"] = _body(_ref("Feedback"), _FEEDBACK)
    paths.update(_BENTOML)
    for path, operations in paths.items():
        for method, operation in operations.items():
            _tell_problems(path, method, operation)
    found["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    return found


def _bound(schemas: dict[str, Any], settings: ServeSettings) -> None:
    """Limits are settings, so that the models do not know them."""
    limits = settings.limits
    for name in ("designation", "description"):
        schemas["Item"]["properties"][name]["anyOf"][0]["maxLength"] = limits.text_chars
    schemas["Item"]["properties"]["image"]["anyOf"][0]["maxLength"] = 4 * (limits.image_bytes // 3 + 1)
    schemas["Batch"]["properties"]["items"]["maxItems"] = limits.items


def _form(item: dict[str, Any]) -> dict[str, Any]:
    texts = {name: {**item["properties"][name]["anyOf"][0]} for name in ("designation", "description")}
    photo = {"type": "string", "format": "binary", "description": "JPEG, PNG or WebP"}
    fields = {**texts, "image": photo, "explain": {"type": "boolean", "default": False}}
    return {"type": "object", "properties": fields, "additionalProperties": False}


def _body(
    schema: dict[str, Any], examples: dict[str, Any], form: dict[str, Any] | None = None
) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "examples": examples}}
    if form is not None:
        content["multipart/form-data"] = {"schema": form, "examples": {}}
        del content["multipart/form-data"]["examples"]
    return {"required": True, "content": content}


def _tell_problems(path: str, method: str, operation: dict[str, Any]) -> None:
    operation["responses"].pop("422", None)  # FastAPI's own shape
    kinds = [*_READ, problems.INTERNAL, problems.OVERLOADED, *(_WRITE if method == "post" else ())]
    if path in _OPEN:
        operation["security"] = []
        kinds = [kind for kind in kinds if kind not in (problems.UNAUTHORIZED, problems.RATE_LIMITED)]
    else:
        operation["security"] = [{}, {"bearer": []}, {"header": []}]
    kinds += [problems.TOO_LARGE, problems.TOO_SLOW, problems.UNSUPPORTED] if method == "get" else []
    for kind in kinds:
        response: dict[str, Any] = {
            "description": kind.title,
            "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
        }
        if kind.status in (429, 503):
            response["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
        operation["responses"].setdefault(str(kind.status), response)


def _ref(model: str) -> dict[str, Any]:
    return {"$ref": _REFS.format(model=model)}


def _plain(summary: str, media_type: str) -> dict[str, Any]:
    answer = {"200": {"description": "As asked", "content": {media_type: {"schema": {"type": "string"}}}}}
    return {"get": {"summary": summary, "tags": ["the service"], "responses": answer}}


_BENTOML: Final = {
    "/livez": _plain("Whether the process lives", "text/plain"),
    "/readyz": _plain("Whether it can answer: 503 while it cannot, or is about to end", "text/plain"),
    "/metrics": _plain("For Prometheus", "text/plain"),
}
_EXAMPLES: Final = {
    "title": {"summary": "A title", "value": {"designation": _TITLE}},
    "both": {
        "summary": "Title and description",
        "value": {"designation": _TITLE, "description": "Diamètre 305 cm, hauteur 76 cm, avec pompe."},
    },
}
_BATCH: Final = {
    "two": {
        "summary": "Two products",
        "value": {
            "items": [{"designation": _TITLE}, {"designation": "Coussin 40 x 40", "description": None}]
        },
    }
}
_FEEDBACK: Final = {
    "wrong": {"summary": "It is a pool", "value": {"prediction_id": "0" * 32, "prdtypecode": 2583}}
}
