"""Which model answers: the published champion, loaded and followed."""

from datetime import UTC, datetime
from pathlib import Path

from rakuten.model.bundle import Predictor
from rakuten.serve.engine import Served
from rakuten.serve.publish import published
from rakuten.serve.settings import ServeSettings


class Champion:
    """The source of an engine."""

    def __init__(self, settings: ServeSettings):
        self.settings = settings
        self.current: Served | None = None

    def load(self) -> None:
        pointer = published(Path(self.settings.champion).parent)
        predictor = Predictor.load(pointer.bundle)
        self.current = Served(pointer.version, predictor, datetime.now(UTC).isoformat(timespec="seconds"))
