"""The HTTP interface: a FastAPI application that the BentoML service mounts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from rakuten.data.labels import Code
from rakuten.data.preprocess import Product
from rakuten.serve.docs import add_docs
from rakuten.serve.engine import Engine
from rakuten.serve.intake import product_of, read_items, read_model, read_product
from rakuten.serve.limits import CLIENT_GONE
from rakuten.serve.problems import NOT_READY, OVERLOADED, ProblemError, invalid, kind_of
from rakuten.serve.schema import (
    BatchResult,
    Feedback,
    FeedbackTaken,
    Health,
    Label,
    ModelFacts,
    Prediction,
    Problem,
)
from rakuten.serve.security import key_name
from rakuten.serve.served import Served
from rakuten.serve.settings import RequestLimits
from rakuten.serve.website import add_website

if TYPE_CHECKING:
    from rakuten.monitor.collectors import RequestMetrics


class FeedbackSink(Protocol):
    """The inference log, as far as feedback goes."""

    def feedback(self, prediction_id: str, code: Code, *, key_name: str | None = None) -> bool:
        """Whether there is room for it."""


def create_app(
    engine: Engine, feedback: FeedbackSink | None = None, metrics: "RequestMetrics | None" = None
) -> FastAPI:
    """The application over an engine that somebody else starts and stops; without a sink it takes no feedback."""
    app = FastAPI(title="rakuten", docs_url=None, redoc_url=None, openapi_url=None)
    _add_problems(app)
    _add_predictions(app, engine, metrics)
    _add_feedback(app, engine, feedback)
    _add_facts(app, engine)
    add_docs(app, engine.settings)
    add_website(app, engine.settings.limits)
    return app


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(ProblemError)
    async def problem(request: Request, error: ProblemError) -> Response:
        request.scope["state"]["problem"] = error
        return error.response(request.url.path)

    @app.exception_handler(RequestValidationError)
    async def wrong_query(request: Request, error: RequestValidationError) -> Response:
        return await problem(
            request, invalid(*((".".join(map(str, each["loc"][1:])), each["msg"]) for each in error.errors()))
        )

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        kind = kind_of(error.status_code)
        response = await problem(request, ProblemError(kind, kind.cure))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)


def _add_predictions(app: FastAPI, engine: Engine, metrics: "RequestMetrics | None") -> None:
    limits = engine.settings.limits

    @app.post("/predict", response_model=Prediction, tags=["predictions"])
    async def predict(request: Request, explain: bool = False) -> Response:
        """The category of a product. Any one of title, description and photo suffices."""
        asked = await read_product(request, limits)
        explain, name = explain or asked.explain, key_name(request.scope)
        return _json(await engine.predict(asked.product, explain=explain, key_name=name))

    @app.post("/predict_batch", response_model=BatchResult, tags=["predictions"])
    async def predict_batch(request: Request, explain: bool = False) -> Response:
        """The categories of many products, in order; one that cannot be answered has its problem in its place."""
        found = [_product_or_problem(item, limits) for item in await read_items(request, limits)]
        products = [each for each in found if isinstance(each, Product)]
        name = key_name(request.scope)
        answers = iter(await engine.predict_many(products, explain=explain, key_name=name))
        results = [next(answers) if isinstance(each, Product) else each for each in found]
        return _json(BatchResult(results=list(_shown(results, metrics))))


def _shown(
    results: list[Prediction | ProblemError], metrics: "RequestMetrics | None"
) -> Iterator[Prediction | Problem]:
    for each in results:
        if not isinstance(each, ProblemError):
            yield each
            continue
        if each.kind in (OVERLOADED, NOT_READY):
            raise each  # no fault of an item: the whole batch is to come again, when Retry-After says
        if metrics is not None:
            metrics.errors.labels(each.kind.name).inc()
        yield each.problem()


def _product_or_problem(item: object, limits: RequestLimits) -> Product | ProblemError:
    try:
        return product_of(item, limits)
    except ProblemError as error:
        return error


def _add_feedback(app: FastAPI, engine: Engine, sink: FeedbackSink | None) -> None:
    @app.post("/feedback", response_model=FeedbackTaken, status_code=202, tags=["predictions"])
    async def feedback(request: Request) -> Response:
        """What a product truly is: kept beside its prediction, to measure by and to learn from."""
        given = await read_model(request, Feedback, engine.settings.limits)
        if sink is None:
            raise ProblemError(
                NOT_READY, "the service keeps no log, where feedback would go", retry_after_s=60
            )
        if given.prdtypecode not in _current(engine).predictor.labels.codes:
            raise invalid(("prdtypecode", "is no category of this model; GET /model lists them"))
        name = key_name(request.scope)
        if not sink.feedback(given.prediction_id, given.prdtypecode, key_name=name):
            raise ProblemError(OVERLOADED, "the log has no room at the moment", retry_after_s=5)
        return _json(FeedbackTaken(**given.model_dump()), 202)


def _add_facts(app: FastAPI, engine: Engine) -> None:
    @app.get("/model", response_model=ModelFacts, tags=["the model"])
    async def model() -> Response:
        """The model that answers now: its card, its metrics, its categories."""
        return _json(_facts(_current(engine)))

    @app.get("/health", response_model=Health, tags=["the service"])
    async def health() -> Response:
        """Whether products can be answered, and by which version. Needs no key."""
        return _json(Health(status="ok", model_version=_current(engine).version))


def _current(engine: Engine) -> Served:
    if (served := engine.source.current) is None:
        raise ProblemError(NOT_READY, engine.source.problem or NOT_READY.cure, retry_after_s=5)
    return served


def _facts(served: Served) -> ModelFacts:
    labels, info, card = served.predictor.labels, served.predictor.info, served.bundle / "card.md"
    return ModelFacts(
        model_version=served.version,
        runtime=served.runtime.name,
        loaded_at=served.loaded_at,
        labels=[Label(prdtypecode=code, name=name) for code, name in zip(labels.codes, labels.names)],
        metrics=info["metrics"],
        lineage=info["lineage"],
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
    )


def _json(answer: BaseModel, status: int = 200) -> Response:
    """Written by pydantic straight away: as FastAPI would answer, without its second validation."""
    return Response(answer.model_dump_json(exclude_none=True), status, media_type="application/json")
