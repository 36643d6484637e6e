"""Feedback, counted right or wrong by what the log says was answered, whichever worker answered it."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from rakuten.data.labels import Code
from rakuten.errors import RakutenError
from rakuten.monitor.reader import LogReader

MAX_WAITING: Final = 1000  # more is counted as feedback to an answer that nobody remembers

Observe = Callable[[Code, tuple[str, Code] | None], None]


class FeedbackCounter:
    """Looks answers up in a thread of its own; `observe` is told the right code, and the version and code answered."""

    def __init__(self, reader: LogReader, observe: Observe):
        self._reader, self._observe = reader, observe
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feedback")
        self._waiting: set[Future[None]] = set()

    def count(self, prediction_id: str, code: Code) -> None:
        """Waits for nothing and never raises."""
        if len(self._waiting) >= MAX_WAITING:
            self._observe(code, None)
            return
        future = self._thread.submit(self._look_up, prediction_id, code)
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, prediction_id: str, code: Code) -> None:
        try:
            answered = self._reader.answers([prediction_id]).get(prediction_id)
        except (RakutenError, SQLAlchemyError):
            answered = None  # the log itself says that its database is away
        self._observe(code, answered)
