"""The parts of one worker, put together, started and ended in their order."""

import asyncio
import logging
import signal

from rakuten.monitor.feedback import FeedbackCounter
from rakuten.monitor.metrics import forget_dead_workers, metrics
from rakuten.monitor.reader import LogReader
from rakuten.monitor.retention import Retention
from rakuten.serve.app import create_app
from rakuten.serve.champion import Champion
from rakuten.serve.engine import Engine
from rakuten.serve.follow.group import Group
from rakuten.serve.follow.places import place_of
from rakuten.serve.lifecycle import Lifecycle
from rakuten.serve.loading import loader
from rakuten.serve.settings import ServeSettings
from rakuten.serve.shadow import Shadow
from rakuten.serve.watch import Watch, open_log

_LOG = logging.getLogger(__name__)


class Assembly:
    """A worker: champion, engine, log, metrics and the application over them."""

    def __init__(self, settings: ServeSettings, lifecycle: Lifecycle):
        _speak_as_bentoml_does()
        forget_dead_workers()
        self._lifecycle = lifecycle
        self.metrics = metrics()
        self.champion = Champion(
            place_of(settings),
            loader(settings, self.metrics.model.canaries),
            Group(),
            poll_s=settings.poll_s,
            watcher=self.metrics.model,
        )
        kept = Retention(days=settings.log_days, product_days=settings.log_product_days)
        self._log = open_log(settings.log, self.metrics, kept)
        self._feedback = None
        if self._log is not None:
            self._feedback = FeedbackCounter(
                LogReader(settings.log), self.metrics.predictions.observe_feedback
            )
        self._shadow = None
        if settings.shadow is not None:
            self._shadow = Shadow(
                settings.shadow, settings.shadow_share, loader(settings), lambda: self.engine.waiting == 0
            )
        watch = Watch(self._log, self.metrics, self.champion, settings.workers, self._feedback, self._shadow)
        self.engine = Engine(settings, self.champion, log=watch, observer=watch, shadow=self._shadow)
        self.app = create_app(self.engine, None if self._log is None else watch, self.metrics.requests)

    @property
    def is_ready(self) -> bool:
        ready = self.champion.current is not None and self._lifecycle.state == "serving"
        self.metrics.model.ready(ready)
        return ready

    async def start(self) -> None:
        await self.champion.start()
        if self._shadow is not None:
            self._shadow.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.champion.ask)

    async def aclose(self) -> None:
        """Answer what is in flight, then bring the log to its place."""
        await self.champion.aclose()
        await self.engine.aclose()
        if self._shadow is not None:
            await asyncio.to_thread(self._shadow.close)
        if self._feedback is not None:
            self._feedback.close()
        if self._log is not None and not await asyncio.to_thread(self._log.close):
            _LOG.warning("some predictions are in the journal only: the next start delivers them")


def _speak_as_bentoml_does() -> None:
    """Our lines go where the server's own go, and look like them."""
    ours, theirs = logging.getLogger("rakuten"), logging.getLogger("bentoml")
    ours.handlers, ours.propagate = theirs.handlers, not theirs.handlers
    ours.setLevel(theirs.getEffectiveLevel())
