"""The thread that brings journals to the database, its own and those of processes that are gone."""

import logging
import os
import random
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy.exc import DBAPIError

from rakuten.monitor.database import Database
from rakuten.monitor.entry import from_line
from rakuten.monitor.findings import Finding, found
from rakuten.monitor.retention import Retention
from rakuten.monitor.spool import Spool, orphans, used_bytes

BATCH_RECORDS: Final = 200  # of a transaction: as many as keep the interpreter busy for some milliseconds
PAUSES_S: Final = (0.2, 10.0)  # between tries while the database is away: the first, the longest
IDLE_S: Final = 0.5
LOOK_AROUND_S: Final = 3.0  # between looks for journals whose processes are gone
RETENTION_S: Final = 3600.0  # between deletions
FINDINGS_S: Final = 10.0
REFUSED: Final = (
    "refused"  # file beside the journals: lines that are damaged or that the database does not take
)
_logger = logging.getLogger(__name__)


@dataclass
class LogCounts:
    """What became of the records since this process began, and where the others are."""

    accepted: int = 0  # `write` and `feedback` said True
    dropped: int = 0  # they said False, no room or closing; or lost afterwards, told in a line of its own
    acknowledged: int = 0  # in a journal on the disk, or in the database
    delivered: int = 0  # in the database; those of dead processes too
    refused: int = 0  # damaged, or not taken by the database; kept in the file REFUSED
    failed_batches: int = 0  # tries that ended in an outage
    backlog: int = 0  # records in memory alone
    spool_bytes: int = 0  # journals of all processes that share the folder
    database_up: bool = True  # as of the last try


class Reporter(Protocol):
    """Whoever shows the counts."""

    def update(self, counts: LogCounts) -> None:
        """Called about once a second, by one thread at a time."""

    def found(self, finding: Finding) -> None:
        """Called with what is in the database, every `FINDINGS_S`."""


class Delivery:
    """Delivers a process's journal while it grows, patient with outages."""

    def __init__(
        self,
        database: Database,
        spool: Spool,
        counts: LogCounts,
        retention: Retention,
        reporter: Reporter | None,
    ):
        self._database, self._spool, self._folder = database, spool, spool.path.parent
        self._counts, self._retention, self._reporter = counts, retention, reporter
        self._connection = threading.Lock()  # one transaction at a time
        self._new, self._stop = threading.Event(), threading.Event()
        self._deadline = float("inf")
        self._look_at = self._delete_at = self._find_at = self._report_at = 0.0  # when next
        self._told = ""
        self._thread = threading.Thread(target=self._work, name="inference-log-delivery", daemon=True)
        self._thread.start()

    def hurry(self) -> None:
        """There is something new."""
        self._new.set()

    def insert(self, lines: list[bytes]) -> None:
        """Straight into the database, in one transaction.

        Raises:
            Exception: an outage; nothing has arrived.
        """
        whole, entries, bad = [], [], []
        for line in lines:
            try:
                entries.append(from_line(line))
                whole.append(line)
            except (ValueError, LookupError, TypeError):
                bad.append(line)
        with self._connection:
            refused = self._database.insert(entries) if entries else []
            for line in [*bad, *(whole[index] for index in refused)]:
                self._set_aside(line)
            self._counts.delivered += len(entries) - len(refused)

    def _set_aside(self, line: bytes) -> None:
        self._counts.refused += 1
        try:
            fd = os.open(self._folder / REFUSED, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
            os.write(fd, line)
            os.close(fd)
        except OSError as error:
            _logger.error("a damaged line of the inference log cannot be kept: %s", error.strerror)

    def stop(self, timeout_s: float) -> bool:
        """Deliver what is left, until the first failure or for so long; whether all has arrived."""
        self._deadline = time.monotonic() + timeout_s
        self._stop.set()
        self._new.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._spool.pending

    def _work(self) -> None:
        pause_s, longest_s = PAUSES_S
        while True:
            stopping = self._stop.is_set()
            try:
                self._deliver(self._spool)
                if not stopping:
                    self._look_around()
                pause_s, self._told, self._counts.database_up = PAUSES_S[0], "", True
            except Exception as error:  # whatever it is, the next try may go well
                self._tell(error)
                # Workers that lost the same database do not all come back at once.
                self._stop.wait(pause_s * random.uniform(0.7, 1.3))
                pause_s = min(2 * pause_s, longest_s)
            self._report(at_once=stopping)
            if stopping:
                return
            self._new.wait(IDLE_S)
            self._new.clear()

    def _deliver(self, spool: Spool) -> None:
        while spool.pending and time.monotonic() < self._deadline:
            lines, end = spool.next(BATCH_RECORDS)
            self.insert(lines)
            spool.delivered(end)
            self._report()

    def _look_around(self) -> None:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_AROUND_S
            with closing(orphans(self._folder)) as left:
                for orphan in left:
                    self._deliver(orphan)
        if now >= self._delete_at:
            self._delete_at = now + RETENTION_S
            with self._connection:
                self._database.prepare()
                self._retention.apply(self._database)
        if self._reporter is not None and now >= self._find_at:
            self._find_at = now + FINDINGS_S
            for finding in found(self._database):
                self._reporter.found(finding)

    def _report(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now >= self._report_at:
            self._report_at = now + 1.0
            self._counts.spool_bytes = used_bytes(self._folder)
            if self._reporter is not None:
                self._reporter.update(self._counts)

    def _tell(self, error: Exception) -> None:
        self._counts.failed_batches += 1
        self._counts.database_up = False
        # SQLAlchemy's text holds the statement, the driver's that of the server.
        text = str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]
        if text != self._told:
            self._told = text
            _logger.warning("the inference log waits in %s for its database: %s", self._folder, text)
