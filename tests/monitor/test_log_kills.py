"""Four workers write to one log while one of them is killed and the database goes away: nothing acknowledged is lost.

Acknowledged as logged is what `flush` said True to, as `rakuten.monitor.log` defines it. The workers print the ids of
such records, and of all that they ever wrote.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, func, select

from rakuten.monitor.delivery import REFUSED
from rakuten.monitor.log import InferenceLog
from rakuten.monitor.spool import SUFFIX
from rakuten.monitor.tables import PREDICTIONS
from tests.monitor.test_log import until
from tests.services import postgres

NUM_WORKERS, NUM_EACH = 4, 6500  # the three that live write 19,500, the fourth at least 500

WORKER = """
import os, random, sys, time
from pathlib import Path
from rakuten.monitor.log import InferenceLog
from tests.monitor.records import record
url, spool, num, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
log = InferenceLog(url, spool)
done, times = 0, []
def say(kind, words):
    if words:
        os.write(1, f"{kind} {' '.join(words)}\\n".encode())
while done < num:
    ids = []
    for _ in range(rng.randint(1, 60)):
        made = record(done % 50)
        say("wrote", [made.prediction_id])
        before = time.perf_counter()
        assert log.write(made)
        times.append(time.perf_counter() - before)
        ids.append(made.prediction_id)
        done += 1
        time.sleep(0.0005)
    if log.flush(20):
        say("acknowledged", ids)
say("slowest", [str(max(times))])
say("median", [str(sorted(times)[len(times) // 2])])
say("closed", [str(log.close(60))])
"""


@dataclass
class Worker:
    """A process that writes, and what it said so far."""

    process: "subprocess.Popen[bytes]"
    out: Path
    said: dict[str, list[str]] = field(default_factory=dict)

    def read(self) -> dict[str, list[str]]:
        said: dict[str, list[str]] = {}
        text = self.out.read_text()
        for line in text[: text.rfind("\n") + 1].splitlines():
            kind, *words = line.split()
            said.setdefault(kind, []).extend(words)
        return said


def start(folder: Path, url: str, index: int) -> Worker:
    out = folder / f"{index}.txt"
    command = [sys.executable, "-c", WORKER, url, str(folder / "spool"), str(NUM_EACH), str(index)]
    with out.open("wb") as stream:
        return Worker(subprocess.Popen(command, stdout=stream), out)


def killed_when(worker: Worker, num_acknowledged: int) -> None:
    until(lambda: len(worker.read().get("acknowledged", [])) >= num_acknowledged, "for a worker")
    time.sleep(random.random() * 0.2)
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()


def check(
    url: str, folder: Path, workers: list[Worker], killed: Worker, closed: tuple[list[str], ...]
) -> None:
    """All that was acknowledged is there, nothing twice, nothing else; and nothing is left to do."""
    for worker in workers:
        if worker is not killed:
            assert worker.process.wait(300) == 0
            assert worker.read()["closed"] in closed  # "False": it ended while the database was away
    log = InferenceLog(url, folder / "spool")  # a worker that starts later takes over what is left
    until(lambda: not [path for path in (folder / "spool").glob(f"*{SUFFIX}") if path != log._spool.path])
    assert log.close()
    assert not (folder / "spool" / REFUSED).exists()
    engine = create_engine(url)
    with engine.connect() as connection:
        ids = connection.execute(select(PREDICTIONS.c.prediction_id)).scalars().all()
        distinct = connection.execute(select(func.count(PREDICTIONS.c.prediction_id.distinct()))).scalar_one()
    engine.dispose()
    acknowledged = {each for worker in workers for each in worker.read()["acknowledged"]}
    wrote = {each for worker in workers for each in worker.read()["wrote"]}
    assert len(wrote) >= 20_000
    assert len(acknowledged) > (NUM_WORKERS - 1) * NUM_EACH
    assert len(killed.read()["acknowledged"]) < NUM_EACH
    assert len(ids) == distinct == len(set(ids))
    assert acknowledged <= set(ids) <= wrote
    print(
        f"{len(wrote)} written, {len(acknowledged)} acknowledged, {len(ids)} in the database;"
        f" unacknowledged of the killed worker: {len(wrote - acknowledged)}, of which {len(set(ids) - acknowledged)} are there"
    )


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    workers = [start(tmp_path, url, index) for index in range(NUM_WORKERS)]
    try:
        killed_when(workers[0], random.randrange(500, 5000))
        check(url, tmp_path, workers, workers[0], (["True"],))
    finally:
        for worker in workers:
            worker.process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [8.0, pytest.param(60.0, marks=pytest.mark.acceptance)])
def test_nor_does_one_killed_while_the_database_is_away(tmp_path: Path, away_s: float) -> None:
    """And no write waits for it: the slowest takes far less than the outage, the usual one what it always took."""
    with postgres(tmp_path) as server:
        workers = [start(tmp_path, server.url, index) for index in range(NUM_WORKERS)]
        try:
            until(lambda: all(len(each.read().get("acknowledged", [])) > 500 for each in workers))
            server.stop()
            began = time.monotonic()
            killed_when(workers[0], len(workers[0].read()["acknowledged"]) + 200)
            journals = list((tmp_path / "spool").glob(f"*{SUFFIX}"))
            assert sum(path.stat().st_size for path in journals) > 0, "the outage was noticed"
            time.sleep(max(0.0, away_s - (time.monotonic() - began)))
            server.start()
            check(server.url, tmp_path, workers, workers[0], (["True"], ["False"]))
            slowest = max(float(each.read()["slowest"][0]) for each in workers[1:])
            usual = np.median([float(each.read()["median"][0]) for each in workers[1:]])
            print(json.dumps({"slowest_of_outage": slowest / away_s, "usual_us": usual * 1e6}))
            assert slowest < away_s / 20
        finally:
            for worker in workers:
                worker.process.kill()
