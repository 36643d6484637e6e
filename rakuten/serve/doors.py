"""All that stands between a client and the application, put before BentoML's service in one place.

From outside in: the connection (head, time, number), the front (known pages, security headers, one kind of error),
BentoML's own middlewares, the end of the service, keys and rates, bodies and answers.
"""

from typing import Any

from bentoml._internal.configuration.containers import BentoMLContainer
from opentelemetry.util.http import ExcludeList

from rakuten.serve.connections import guard
from rakuten.serve.front import Front
from rakuten.serve.limits import Limits
from rakuten.serve.security import Doorkeeper
from rakuten.serve.settings import ServeSettings


def hang_doors(service: Any, settings: ServeSettings) -> Front:
    """
    Args:
        service: what `bentoml.service` makes of a class.
    """
    _trace_for_somebody_alone()
    front = Front(settings.limits)
    guard(front, settings.limits)
    service.add_asgi_middleware(Doorkeeper, settings=settings)
    service.add_asgi_middleware(Limits, limits=settings.limits)
    return front


def _trace_for_somebody_alone() -> None:
    """BentoML traces every request even where its configuration names no one to send the traces to: a fifth of the work."""
    if BentoMLContainer.tracing.exporter_type.get() is None:
        BentoMLContainer.tracing_excluded_urls.set(ExcludeList([".*"]))
