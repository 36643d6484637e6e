"""Killed at any moment, wherever it hurts: the study is the one that nobody disturbed."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.experiment.sweeps import (
    children_of,
    end,
    finish_sweep,
    mlflow_runs,
    params_of,
    start_sweep,
    trials_of,
)


def kill_one(process: "subprocess.Popen[str]", moments: random.Random) -> bool:
    """Kill the sweep or one of the processes below it; whether it was the sweep."""
    below = children_of(process.pid)
    if not below or moments.random() < 0.3:
        end(process)
        return True
    try:
        os.kill(moments.choice(below), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return False


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("num_trials", "num_kills"), [(3, 3), pytest.param(20, 30, marks=pytest.mark.acceptance)]
)
def test_kills_change_nothing(num_trials: int, num_kills: int, tmp_path: Path) -> None:
    """Of the sweep, of the server its trials are forked from, of the trials: at random moments of a study."""
    more = [f"n_trials={num_trials}", "n_jobs=1"]
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    calm.mkdir()
    wild.mkdir()
    finish_sweep(calm, *more)
    (wild / "data").symlink_to(calm / "data")
    undisturbed = trials_of(f"sqlite:///{calm}/outputs/sweeps.db")
    moments = random.Random(0)
    storage = f"sqlite:///{wild}/outputs/sweeps.db"
    killed_sweeps, process = 0, start_sweep(wild, *more)
    for kills in range(num_kills):
        # The last kill must still find a study at work: faster where the trials are ahead of the kills.
        is_ahead = num_finished(wild / "outputs/sweeps.db") / num_trials > kills / num_kills
        time.sleep(moments.uniform(0.0, 0.5) if is_ahead else moments.uniform(0.1, 2.5))
        assert process.poll() is None, process.communicate()[1][-3000:]
        if kill_one(process, moments):
            killed_sweeps += 1
            process = start_sweep(wild, *more)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-4000:]
    print(f"{num_kills} kills, {killed_sweeps} of them of the sweep")
    assert killed_sweeps >= num_kills // 10
    trials = trials_of(storage)
    assert [trial.number for trial in trials] == list(range(num_trials))
    assert all(trial.state.is_finished() for trial in trials)
    assert params_of(trials) == params_of(undisturbed)
    assert output.strip().endswith("/bundle")
    statuses = {name: status for name, status, _ in mlflow_runs(wild)}
    assert len(mlflow_runs(wild)) == len(statuses) == num_trials + 1
    expected = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
    assert {f"trial-{t.number:03d}": expected[t.state.name] for t in trials} | {
        "tiny": "FINISHED"
    } == statuses


def num_finished(database: Path) -> int:
    if not database.exists():
        return 0
    with sqlite3.connect(database) as connection, contextlib.suppress(sqlite3.OperationalError):
        query = "select count(*) from trials where state in ('COMPLETE', 'PRUNED', 'FAIL')"
        return int(connection.execute(query).fetchone()[0])
    return 0
