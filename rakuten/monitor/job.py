"""A look at the champion's traffic: the log's newest answers against the bundle's reference, decided, kept and published."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from rakuten.config import WatchConfig
from rakuten.data.files import atomic_write
from rakuten.errors import RakutenError
from rakuten.model.reference import Observations, Reference
from rakuten.monitor.database import READS, Database
from rakuten.monitor.decisions import Course, course_of, remember, remembered
from rakuten.monitor.drift.decision import Decision, look
from rakuten.monitor.drift.report import DriftReport
from rakuten.monitor.drift.window import window_of
from rakuten.monitor.findings import DRIFT, Finding, publish
from rakuten.monitor.reader import LogReader
from rakuten.monitor.record import PredictionRecord
from rakuten.monitor.tables import PREDICTIONS
from rakuten.monitor.windows import newest_windows, windows_between

FIGURES: Final = "drift.json"  # below report_dir
EXIT_CODES: Final = {
    "none": 0,
    "warning": 10,
    "alarm": 20,
}  # by severity; 1 and 2 are every script's own mistakes
FORMAT: Final = 1


class LogAwayError(RakutenError):
    """The log's database cannot be reached now; it may be later."""


@dataclass(frozen=True)
class Watched:
    """Whose answers are looked at."""

    version: str
    bundle: Path


@dataclass(frozen=True, eq=False)
class Look:
    """What one look found."""

    at: float  # Unix time, s
    watched: Watched
    reference: Reference
    windows: Sequence[Observations]  # oldest first; the last one is the window
    first_at: float  # of the window's answers, Unix time, s
    last_at: float
    num_answers: int  # of the window, those of the same product too
    decision: Decision
    reports: Sequence[DriftReport]  # the shortest scale first
    course: Course
    is_past: bool  # of a time that was asked for: neither remembered nor published

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.decision.severity]

    def to_json(self) -> dict[str, Any]:
        """Plain types only; times as ISO 8601, UTC."""
        past = self.course.resolved
        return {
            "format": FORMAT,
            "at": iso(self.at),
            "model_version": self.watched.version,
            "bundle": str(self.watched.bundle),
            "window": {
                "products": len(self.windows[-1]),
                "answers": self.num_answers,
                "first_at": iso(self.first_at),
                "last_at": iso(self.last_at),
            },
            "decision": self.decision.to_json(),
            "since": None if self.course.since is None else iso(self.course.since),
            "resolved": None if past is None else asdict(past) | {"at": iso(past.at)},
            "remembered": not self.is_past,
            "reports": [report.to_json() for report in self.reports],
        }


def look_at(config: WatchConfig, watched: Watched) -> Look:
    """Read the log and decide; nothing is written.

    Raises:
        RakutenError: no log, away, or it has no answer of this version; a bundle without a reference, or of other answers.
    """
    reference = Reference.load(watched.bundle)
    now = time.time()
    with log_at(config.log) as database:
        reader = LogReader(config.log, reference.codes)
        found = _windows(config, reader, watched.version, now)
        if not found:
            raise _nothing(config, database, watched.version)
        _require_its_own(found[-1][-1], reference, watched)
        windows = [_window(reader, records, reference) for records in found]
        reader.close()
        decision, reports = look(reference, windows, config.drift)
        course = course_of(decision, now, remembered(database, watched.version))
    return Look(
        at=now,
        watched=watched,
        reference=reference,
        windows=windows,
        first_at=found[-1][0].at,
        last_at=found[-1][-1].at,
        num_answers=len(found[-1]),
        decision=decision,
        reports=reports,
        course=course,
        is_past=config.since is not None,
    )


def keep(config: WatchConfig, found: Look) -> Path:
    """Write drift.json, remember the decision and show it to Prometheus; the path of the file.

    Raises:
        RakutenError: the log is away.
    """
    path = config.report_dir / FIGURES
    write_json(path, found.to_json())
    if not found.is_past:
        body = {
            "report": found.reports[0].to_json(),
            "decision": found.decision.to_json(),
            "model_version": found.watched.version,
        }
        with log_at(config.log) as database:
            remember(database, found.watched.version, found.at, found.decision)
            publish(database, Finding(DRIFT, found.at, body))
    return path


@contextmanager
def log_at(url: str) -> Iterator[Database]:
    """The log's database, which is there already.

    Raises:
        RakutenError: it is not.
        LogAwayError: it is away.
    """
    database = Database(url)
    file = database.url.database
    if database.url.drivername == "sqlite" and file is not None and not Path(file).is_file():
        raise RakutenError(
            f"there is no inference log at {file}",
            fix="log=URL, as conf/serve.yaml has it; the service writes it with its first answer",
        )
    try:
        yield database
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or type(error).__name__).strip().partition("\n")[0]
        raise LogAwayError(f"the inference log at {masked(url)} is away", got=reason) from error
    finally:
        database.close()


def masked(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


def write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as partial:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _windows(
    config: WatchConfig, reader: LogReader, version: str, now: float
) -> list[list[PredictionRecord]]:
    num = max(config.drift.scales)
    if config.since is None:
        return newest_windows(reader, version, products=config.window_products, windows=num)
    until = now if config.until is None else _unix(config.until)
    if _unix(config.since) >= until:
        raise RakutenError("no time lies between since and until", got=f"{config.since} and {iso(until)}")
    return windows_between(reader, version, _unix(config.since), until, windows=num)


def _unix(at: datetime) -> float:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _window(reader: LogReader, records: Sequence[PredictionRecord], reference: Reference) -> Observations:
    return window_of(records, reference, reader.feedback([each.prediction_id for each in records]))


def _nothing(config: WatchConfig, database: Database, version: str) -> RakutenError:
    """What the log has instead."""
    database.prepare()
    column = PREDICTIONS.c.model_version
    with database.engine.connect().execution_options(**{READS: True}) as connection:
        rows = connection.execute(select(column, func.count()).group_by(column).order_by(column)).all()
    where = masked(config.log)
    if not rows:
        return RakutenError(
            f"the inference log at {where} is empty", fix="ask the service something, or give its own log"
        )
    others = ", ".join(f"version {name} ({count:,} answers)" for name, count in rows)
    when = " of that time" if config.since is not None else ""
    return RakutenError(f"the inference log at {where} has no answer of version {version}{when}", got=others)


def _require_its_own(record: PredictionRecord, reference: Reference, watched: Watched) -> None:
    widths = {name: each.shape[1] for name, each in reference.seen.embeddings.items()}
    given = {name: getattr(record, f"{name}_embedding", None) for name in widths}
    alike = all(each is None or len(each) == widths[name] for name, each in given.items())
    if len(record.probs) != len(reference.codes) or not alike:
        raise RakutenError(
            f"the answers of version {watched.version} are of another model than {watched.bundle}",
            expected=f"{len(reference.codes)} categories, embeddings of {widths}",
            got=f"{len(record.probs)} categories",
            fix="bundle= and version= of the same model",
        )
