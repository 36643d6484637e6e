"""A model that answers: in memory, checked and warm."""

from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rakuten.model.bundle import Predictor
from rakuten.model.runtime import Runtime
from rakuten.serve.costs import Costs


@dataclass(frozen=True, eq=False)
class Served:
    """Whoever answers a request takes one of these once and keeps it, so that a swap never mixes two models."""

    version: str
    predictor: Predictor
    loaded_at: str  # ISO 8601, UTC
    runtime: Runtime
    bundle: Path
    known_words: Set[int] | None = (
        None  # of its training texts: what is new in a request's is counted against them
    )
    costs: Costs = field(default_factory=Costs)


class Source(Protocol):
    """Whoever knows which model answers now."""

    @property
    def current(self) -> Served | None: ...

    @property
    def problem(self) -> str | None:
        """Why nothing answers, or not the newest; None where all is well."""
