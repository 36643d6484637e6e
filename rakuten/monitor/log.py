"""The inference log: one row a prediction, written off the request path, never the reason why a request fails.

A record waits in memory, goes into a journal on disk (`rakuten.monitor.spool`) within `BATCH_S` and from there into
the database when that is there. It is *acknowledged as logged* once it is in the journal and the journal is on the
disk (fsync), or in the database, committed. From then on neither a kill of this process nor an outage of the database
loses it, and no row is there twice. `flush` says that all that was written before it is acknowledged, `close` too.
What `write` took but was not acknowledged yet goes with a killed process: what came within `BATCH_S` and an fsync.
"""

import logging
import threading
import time
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from rakuten.data.labels import Code
from rakuten.monitor.database import Database
from rakuten.monitor.delivery import Delivery, LogCounts, Reporter
from rakuten.monitor.entry import Entry, Feedback, to_line
from rakuten.monitor.record import PredictionRecord
from rakuten.monitor.retention import Retention
from rakuten.monitor.spool import new_spool

BATCH_S: Final = 0.05
RETRY_S: Final = 0.2  # while there is room neither on the disk nor in the database
ENCODED_AT_ONCE: Final = 8  # records, some 0.3 ms; then whoever waits for the interpreter has it
_logger = logging.getLogger(__name__)


class _Marker:
    """Stands behind what is to be acknowledged; set when all before it is."""

    def __init__(self) -> None:
        self.reached = threading.Event()


class InferenceLog:
    """The log of one process; as many processes as you like share a database and a folder of journals.

    Raises:
        RakutenError: the URL is none, its database holds another version's log, or `spool_dir` is not to be written
            to. A database that is away is no error: the log waits for it.
    """

    def __init__(
        self,
        url: str,
        spool_dir: Path,
        *,
        max_records: int = 10_000,
        max_bytes: int = 64 << 20,
        max_spool_bytes: int = 512 << 20,
        retention: Retention | None = None,
        reporter: Reporter | None = None,
    ):
        """
        Args:
            max_records: in memory at once; more are dropped, and counted.
            max_bytes: of texts and photos in memory at once.
            max_spool_bytes: of all journals in `spool_dir`; then records wait in memory.
            reporter: is shown the counts about once a second.
        """
        self.counts = LogCounts()
        self._max_records, self._max_bytes = max_records, max_bytes
        self._max_spool_bytes = max_spool_bytes
        self._database = Database(url)
        try:
            self._database.prepare()
        except SQLAlchemyError:
            _logger.warning("the inference log's database is away: records wait in %s", spool_dir)
        self._spool = new_spool(spool_dir)
        self._delivery = Delivery(
            self._database, self._spool, self.counts, retention or Retention(), reporter
        )
        self._lock = threading.Lock()  # held for the time of a swap
        self._queue: list[Entry | _Marker] = []
        self._queued_bytes = 0
        self._closing, self._deadline = threading.Event(), float("inf")
        self._wake = threading.Event()
        self._told = ""
        self._thread = threading.Thread(target=self._work, name="inference-log", daemon=True)
        self._thread.start()

    def write(self, record: PredictionRecord) -> bool:
        """Whether there is room for it. Waits for nothing and never raises: safe in an event loop."""
        size = 0
        if record.designation is not None or record.description is not None or record.image is not None:
            size = sum(len(each or ()) for each in (record.designation, record.description, record.image))
        return self._put(record, size)

    def feedback(self, prediction_id: str, code: Code, *, key_name: str | None = None) -> bool:
        """As `write`: what an answer should have been. The prediction's own row may arrive later; the last one counts.

        Whether the code is one of the model's is the caller's to check.
        """
        return self._put(Feedback(prediction_id, code, time.time(), key_name), 0)

    def lost(self) -> None:
        """Count an answer of which no record could be made."""
        with self._lock:
            self.counts.dropped += 1

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until all that was written before is acknowledged as logged; whether it was in time. Not for event loops."""
        marker = _Marker()
        with self._lock:
            if self._closing.is_set():
                return False
            self._queue.append(marker)
        self._wake.set()
        return marker.reached.wait(timeout_s)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Take no more, and bring what there is to the journal and the database; whether all is in the database.

        What is in the journal alone when the time is over, or when the database is away, is delivered by the next process
        that opens the folder: nobody waits for a database at the end.
        """
        self._deadline = time.monotonic() + timeout_s
        with self._lock:
            if self._closing.is_set():
                return not self._spool.pending
            self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)
        kept = not self._thread.is_alive()
        delivered = self._delivery.stop(max(0.2, self._deadline - time.monotonic()))
        if kept:  # else a write may still hang on a disk
            self._spool.close()
        self._database.close()
        return kept and delivered

    def _put(self, entry: Entry, size_bytes: int) -> bool:
        with self._lock:
            is_full = (
                len(self._queue) >= self._max_records or self._queued_bytes + size_bytes > self._max_bytes
            )
            if is_full or self._closing.is_set():
                self.counts.dropped += 1
                return False
            self._queue.append(entry)
            self._queued_bytes += size_bytes
            self.counts.accepted += 1
            return True

    def _work(self) -> None:
        while True:
            closing = self._closing.is_set()
            with self._lock:
                entries, self._queue, self._queued_bytes = self._queue, [], 0
            self.counts.backlog = len(entries)
            lines: list[bytes] = []
            for number, entry in enumerate(entries, start=1):
                if isinstance(entry, _Marker):
                    self._keep(lines)
                    lines = []
                    entry.reached.set()
                else:
                    lines += self._encoded(entry)
                if number % ENCODED_AT_ONCE == 0:
                    time.sleep(0)
            self._keep(lines)
            self.counts.backlog = 0
            if closing:
                return
            self._wake.wait(BATCH_S)
            self._wake.clear()

    def _encoded(self, entry: Entry) -> list[bytes]:
        try:
            return [to_line(entry)]
        except Exception:  # our own mistake, and still no reason to log nothing more
            _logger.exception("a record of the inference log makes no sense")
            self.lost()
            return []

    def _keep(self, lines: list[bytes]) -> None:
        """On the disk or in the database, however long it takes; lost only if the time to close is over."""
        while lines:
            if self._in_spool(lines) or self._in_database(lines):
                self.counts.acknowledged += len(lines)
                return
            time.sleep(RETRY_S)
            if self._closing.is_set() and time.monotonic() > self._deadline:
                with self._lock:
                    self.counts.dropped += len(lines)
                _logger.error("%d predictions are not logged: no room and no database", len(lines))
                return

    def _in_spool(self, lines: list[bytes]) -> bool:
        data = b"".join(lines)
        others = max(0, self.counts.spool_bytes - self._spool.size_bytes)
        if others + self._spool.size_bytes + len(data) > self._max_spool_bytes:
            self._tell(f"the journals of the inference log have reached {self._max_spool_bytes} bytes")
            return False
        try:
            self._spool.append(data)
        except OSError as error:
            self._tell(f"the inference log cannot write to {self._spool.path.parent}: {error.strerror}")
            return False
        self._told = ""
        self._delivery.hurry()
        return True

    def _in_database(self, lines: list[bytes]) -> bool:
        try:
            self._delivery.insert(lines)
        except Exception:  # an outage, told by the delivery
            return False
        return True

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            _logger.warning(text)
