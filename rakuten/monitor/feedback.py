"""Feedback, counted right or wrong by what the log says was answered, whichever worker answered it."""

import heapq
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from rakuten.data.labels import Code
from rakuten.errors import RakutenError
from rakuten.monitor.reader import LogReader

MAX_WAITING: Final = 10_000  # more is counted as feedback to an answer that nobody remembers
# Until an answer is looked up, each time it was not found: who corrects at once is faster than the log.
WAITS_S: Final = (1.0, 5.0, 30.0)

_LOG = logging.getLogger(__name__)

Observe = Callable[[Code, tuple[str, Code] | None], None]


class _Waiting(NamedTuple):
    due: float
    tries: int
    prediction_id: str
    code: Code


class FeedbackCounter:
    """Looks answers up in a thread of its own; `observe` is told the right code, and the version and code answered."""

    def __init__(self, reader: LogReader, observe: Observe, waits_s: Sequence[float] = WAITS_S):
        self._reader, self._observe, self._waits_s = reader, observe, waits_s
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []  # a heap
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="feedback", daemon=True)
        self._thread.start()

    def count(self, prediction_id: str, code: Code) -> None:
        """Waits for nothing and never raises."""
        with self._changed:
            is_full = len(self._waiting) >= MAX_WAITING
            if not is_full:
                self._push(0, prediction_id, code)
                self._changed.notify()
        if is_full:
            self._observe(code, None)

    def close(self) -> None:
        """What waits is in the log, and is not counted any more."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _push(self, tries: int, prediction_id: str, code: Code) -> None:
        due = time.monotonic() + self._waits_s[tries]
        heapq.heappush(self._waiting, _Waiting(due, tries, prediction_id, code))

    def _work(self) -> None:
        while due := self._due():
            try:
                self._settle(due)
            except Exception:  # the thread goes on: one fault is not to end the counting of all that follows
                _LOG.exception("feedback could not be counted")

    def _settle(self, due: Sequence[_Waiting]) -> None:
        answers = self._look_up([each.prediction_id for each in due])
        for each in due:
            answered = answers.get(each.prediction_id)
            if answered is None and each.tries + 1 < len(self._waits_s):
                with self._changed:
                    self._push(each.tries + 1, each.prediction_id, each.code)
            else:
                self._observe(each.code, answered)

    def _due(self) -> list[_Waiting]:
        """All whose time has come, as soon as there is one; none once it is closed."""
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                due = []
                while self._waiting and self._waiting[0].due <= now:
                    due.append(heapq.heappop(self._waiting))
                if due:
                    return due
                self._changed.wait(self._waiting[0].due - now if self._waiting else None)
            return []

    def _look_up(self, prediction_ids: Sequence[str]) -> dict[str, tuple[str, Code]]:
        try:
            return self._reader.answers(prediction_ids)
        except (RakutenError, SQLAlchemyError):
            return {}  # the log itself says that its database is away
