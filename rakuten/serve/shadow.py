"""A challenger that sees a share of the requests: what it would have said is compared, and never returned.

It runs when nothing waits for the champion, in a thread of its own at low priority, and is left out where nothing of
that comes within `PATIENCE_S`. Whatever goes wrong with it, answers are as they would be without it.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rakuten.data.labels import Code
from rakuten.data.preprocess import Product
from rakuten.model.runtime import embed
from rakuten.monitor.record import PredictionRecord
from rakuten.serve.champion import one_line
from rakuten.serve.follow.place import Found
from rakuten.serve.loading import Load
from rakuten.serve.served import Served

_LOG = logging.getLogger(__name__)
MOST: Final = 16  # products that wait for it
PATIENCE_S: Final = 2.0
_LOOK_S: Final = 0.01
_NICENESS: Final = 10


@dataclass(frozen=True)
class Opinion:
    """What the challenger would have answered."""

    version: str
    code: Code
    confidence: float


@dataclass(frozen=True)
class _Asked:
    at: float  # time.monotonic()
    product: Product
    opinion: "Future[Opinion | None]"


class Shadow:
    """
    Args:
        bundle: the challenger's folder.
        share: of the requests that it sees, chosen by their prediction ids.
        is_idle: whether nothing waits for the champion; called from the shadow's thread.
    """

    def __init__(self, bundle: Path, share: float, load: Load, is_idle: Callable[[], bool]):
        self._bundle, self._share, self._load, self._is_idle = bundle, share, load, is_idle
        self._waiting: deque[_Asked] = deque()
        self._opinions: dict[str, Future[Opinion | None]] = {}  # until their records come
        self._changed = threading.Condition()
        self._served: Served | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)

    def start(self) -> None:
        """Loads in its own thread: whoever answers does not wait."""
        self._thread.start()

    def see(self, product: Product, prediction_id: str) -> None:
        """For the event loop: waits for nothing."""
        if int(prediction_id[:8], 16) >= self._share * 2**32:
            return
        with self._changed:
            if self._served is None or self._closing or len(self._waiting) >= MOST:
                return
            asked = _Asked(time.monotonic(), product, Future())
            self._waiting.append(asked)
            self._opinions[prediction_id] = asked.opinion
            if len(self._opinions) > 4 * MOST:  # of records that never came
                self._opinions.pop(next(iter(self._opinions)))
            self._changed.notify()

    def add_to(self, record: PredictionRecord, write: Callable[[PredictionRecord], None]) -> None:
        """`write` the record: at once where the challenger did not see its product, else with what it said of it."""
        with self._changed:
            opinion = self._opinions.pop(record.prediction_id, None)
        if opinion is None:
            write(record)
            return

        def finish(said: "Future[Opinion | None]") -> None:
            found = said.result()
            if found is None:
                write(record)
            else:
                write(
                    replace(
                        record,
                        shadow_version=found.version,
                        shadow_code=found.code,
                        shadow_confidence=found.confidence,
                    )
                )

        opinion.add_done_callback(finish)

    def close(self) -> None:
        """What still waits is left out."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)

    def _work(self) -> None:
        _step_back()
        try:
            self._served = self._load(Found(self._bundle.parent.name, "", str(self._bundle)), self._bundle)
            _LOG.info("%s sees %.0f %% of the requests", self._bundle, 100 * self._share)
        except Exception as error:  # whatever a bundle makes a library raise
            _LOG.error("the shadow %s is refused: %s", self._bundle, one_line(error))
            return
        while (asked := self._next()) is not None:
            asked.opinion.set_result(
                self._opinion(self._served, asked.product) if self._may_run(asked.at) else None
            )
        for asked in self._waiting:
            asked.opinion.set_result(None)

    def _next(self) -> _Asked | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return None if self._closing else self._waiting.popleft()

    def _may_run(self, came: float) -> bool:
        while not self._is_idle():
            if self._closing or time.monotonic() - came > PATIENCE_S:
                return False
            time.sleep(_LOOK_S)
        return True

    def _opinion(self, served: Served, product: Product) -> Opinion | None:
        try:
            predictor = served.predictor
            batch = predictor.batch(predictor.preprocessor([product]))
            probs = predictor.probabilities_of(served.runtime, embed(served.runtime, batch))[0]
            best = int(probs.argmax())
            return Opinion(served.version, predictor.labels.codes[best], float(probs[best]))
        except Exception as error:
            _LOG.warning("the shadow could not answer: %s", one_line(error))
            return None


def _step_back() -> None:
    """On Linux a thread has a priority of its own."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
