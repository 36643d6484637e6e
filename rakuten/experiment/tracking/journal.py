"""What a run says, on disk before it goes to MLflow: an outage costs neither the run nor its record.

One JSON object a line, from a `start` to a `finish` or a `close`. The file goes when all of it has arrived, so one that is there
has something to deliver, from its first line on: delivered twice is the same as once.
"""

import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from rich.markup import escape

from rakuten.errors import RakutenError
from rakuten.experiment.runs import STATE

Status = Literal["FINISHED", "FAILED", "KILLED"]
JOURNAL = "tracking.jsonl"
JOURNALS = f"*/checkpoints/{JOURNAL}", "sweeps/*/*.jsonl"  # below outputs_dir
HELD_S = 60  # a journal is waited for that another process is just delivering
MAX_METRICS_PER_CALL = 1000  # MLflow's limit of a batch
FIELDS = {  # what each kind of line holds, beside its `op`
    "start": {"name", "run_name", "resume_id", "tags", "uri", "experiment", "time"},  # and `reopen`
    "params": {"params"},
    "metrics": {"values", "step", "time"},  # milliseconds, when it was said
    "artifacts": {"folder", "name"},
    "text": {"text", "name"},
    "tags": {"tags"},
    "finish": {"status", "time"},
    "close": set(),  # of what was said of a run that had ended before
}
Op = dict[str, Any]


class Journal:
    """A journal file and what of it has not arrived yet. No other process has it until it is closed or removed.

    Raises:
        RakutenError: another process has it still after `wait_s`.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, say: Callable[[str], object], wait_s: float = 0):
        self.path, self._say = path, say
        self._told: set[str] = set()
        self._changed = threading.Condition()
        # Taken by the thread that trains, given back by the one that delivers.
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)
        try:
            self._lock.acquire(timeout=wait_s)
        except Timeout as error:
            raise RakutenError(f"another process has {path}", fix="wait until it has ended") from error
        try:
            ops = self._read()
            self._file = path.open("ab")
        except BaseException:
            self._lock.release()
            raise
        self._pending = deque(ops)
        self._last = ops[-1]["op"] if ops else None
        self.start = next((op for op in reversed(ops) if op["op"] == "start"), None)

    def _read(self) -> list[Op]:
        """Its ops. A last line whose writer was killed is cut off, a file that makes no sense is set aside."""
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        size = content.rfind(b"\n") + 1
        try:
            ops = [json.loads(line) for line in content[:size].splitlines()]
            if not all(map(_makes_sense, ops)) or (ops and ops[0]["op"] != "start"):
                raise ValueError("not a journal")
        except ValueError:
            aside = self.path.replace(self.path.with_name(f"{self.path.name}.corrupt"))
            self.tell(
                f"[yellow]a record for MLflow cannot be read and is set aside: {escape(str(aside))}[/yellow]"
            )
            return []
        if size < len(content):
            os.truncate(self.path, size)
        return ops

    @property
    def finished(self) -> bool:
        return self._last in ("finish", "close")

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    def append(self, kind: str, **fields: Any) -> Op:
        op = {"op": kind, **fields}
        assert _makes_sense(op), op
        with self._changed:
            self._file.write(json.dumps(op).encode() + b"\n")
            self._file.flush()
            self._pending.append(op)
            self._last = kind
            self.start = op if kind == "start" else self.start
            self._changed.notify()
        return op

    def next_call(self) -> list[Op]:
        """What goes to MLflow at once: one op, or the metrics up to the next op of another kind."""
        ops: list[Op] = []
        room = MAX_METRICS_PER_CALL
        with self._changed:
            for op in self._pending:
                room -= len(op.get("values", ()))
                if ops and (room < 0 or {op["op"], ops[0]["op"]} != {"metrics"}):
                    break
                ops.append(op)
        return ops

    def arrived(self, ops: list[Op]) -> None:
        with self._changed:
            for _ in ops:
                self._pending.popleft()

    def wait(self) -> None:
        """Until there is something to deliver."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending)

    def tell(self, text: str) -> None:
        """Each text once; a console that is gone stops no delivery."""
        if text not in self._told:
            self._told.add(text)
            with suppress(Exception):
                self._say(text)

    def close(self) -> None:
        """Leave the file to whoever delivers it later."""
        self._file.close()
        self._lock.release()

    def remove(self) -> None:
        """All has arrived. The lock's file goes while it is held: who waits for it sees that it is gone."""
        self.path.unlink(missing_ok=True)
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self.close()


def _makes_sense(op: object) -> bool:
    return isinstance(op, dict) and op.keys() >= FIELDS.get(str(op.get("op")), {"no such op"})


def left_behind(
    outputs_dir: Path, uri: str, experiment: str, say: Callable[[str], object]
) -> Iterator[Journal]:
    """Journals for this store that no live process has; each is ours until the next one is asked for."""
    for path in sorted(path for pattern in JOURNALS for path in outputs_dir.glob(pattern)):
        try:
            journal = Journal(path, say)
        except (RakutenError, OSError):  # a live process has it, or it is not ours to write
            continue
        try:
            if journal.start is None:  # killed before its first line was whole
                journal.remove()
            elif (journal.start["uri"], journal.start["experiment"]) == (uri, experiment):
                # Killed, a process wrote no `finish`. Its run may be resumed, which goes on in this file, so the file
                # stays; until run.json says how the run ended, as it does once somebody has noticed that it did. What
                # stands above other runs has no run.json: it was killed, and says otherwise if it is begun again.
                is_over = journal.finished or not journal.start.get("reopen", True)
                ended = None if is_over else _ended(path)
                if ended is not None:
                    journal.append("finish", status=ended, time=int(path.stat().st_mtime * 1000))
                yield journal
        finally:
            journal.close()


def _ended(journal: Path) -> Status | None:
    ends: dict[str, Status] = {
        "finished": "FINISHED",
        "failed": "FAILED",
        "killed": "KILLED",
        "pruned": "KILLED",
    }
    try:
        return ends.get(json.loads((journal.parent / STATE).read_text(encoding="utf-8"))["state"])
    except FileNotFoundError:
        return "KILLED"
    except (OSError, ValueError, LookupError, TypeError):
        return None


def without_password(text: str) -> str:
    """`text` with the password of every URI in it starred out."""
    return re.sub(r"(://[^:/@\s]*):[^\s'\"]*@", r"\1:***@", text)


def now_ms() -> int:
    return int(time.time() * 1000)
