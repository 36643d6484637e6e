"""The HTTP interface: a FastAPI application that the BentoML service mounts."""

import base64
import binascii
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from rakuten.data.preprocess import Product
from rakuten.serve.engine import Engine
from rakuten.serve.problems import INVALID, ProblemError
from rakuten.serve.schema import Batch, BatchResult, Health, Item, Mistake, Prediction, Problem
from rakuten.serve.website import add_website


def create_app(engine: Engine) -> FastAPI:
    """The application over an engine that somebody else starts and stops."""
    app = FastAPI(title="rakuten", docs_url=None, redoc_url=None)

    @app.exception_handler(ProblemError)
    async def problem(request: Request, error: ProblemError) -> JSONResponse:
        return error.response(request.url.path)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        mistakes = [
            Mistake(field=".".join(map(str, each["loc"])), detail=each["msg"]) for each in error.errors()
        ]
        return ProblemError(INVALID, "see errors", errors=mistakes).response(request.url.path)

    @app.post("/predict", response_model_exclude_none=True)
    async def predict(item: Item, explain: bool = False) -> Prediction:
        return await engine.predict(_product(item), explain=explain)

    @app.post("/predict_batch", response_model_exclude_none=True)
    async def predict_batch(batch: Batch, explain: bool = False) -> BatchResult:
        results: list[Prediction | Problem] = []
        for item in batch.items:
            try:
                results.append(await engine.predict(_product(item), explain=explain))
            except ProblemError as error:
                results.append(error.problem())
        return BatchResult(results=results)

    @app.get("/health")
    async def health() -> Health:
        served = engine.source.current
        assert served is not None
        return Health(status="ok", model_version=served.version)

    add_website(app, engine.settings.limits)
    return app


def _product(item: Item) -> Product:
    image: Any = None
    if item.image is not None:
        try:
            image = base64.b64decode(item.image, validate=True)
        except binascii.Error as error:
            raise ProblemError(INVALID, f"image: {error}") from error
    return Product(item.designation, item.description, image)
