"""Tiny studies by the real script, and what is left of them."""

import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial

from tests.experiment.conftest import DEMO, TEXT, Shop, start_script

# A text tower alone, trained for three epochs in about a second.
SPACE = [
    "hydra/sweeper=optuna",
    "study_name=tiny",
    "model.text.lr=tag(log,interval(1e-3,1e-1))",
    "optim.lr=tag(log,interval(1e-3,1e-1))",
    "model.text.embedding_dim=choice(8,16)",
    "model.text.dropout=tag('model.text.embedding_dim=16',interval(0.0,0.5))",
    "hydra.sweeper.sampler.n_startup_trials=4",
    "hydra.sweeper.pruner.n_startup_trials=3",
    "hydra.sweeper.pruner.n_warmup_steps=0",
    "hydra.sweeper.pruner.n_min_trials=2",
]
SMALL = [each for each in TEXT if "embedding_dim" not in each]
TINY = [*DEMO, "model=text_small", *SMALL, "trainer.max_epochs=3", "trainer.threads=1", "bootstrap=0"]


def sweep_command(*more: str) -> list[str]:
    return ["-m", *SPACE, *TINY, *more]


def start_sweep(folder: Path, *more: str) -> "subprocess.Popen[str]":
    return start_script("train", sweep_command(*more), folder)


def finish_sweep(folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    process = start_sweep(folder, *more)
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors[-4000:]
    return subprocess.CompletedProcess("train", process.returncode, output, errors)


def trials_of(storage: str, name: str = "tiny") -> list[FrozenTrial]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    database = optuna.storages.RDBStorage(storage)
    try:
        return optuna.load_study(study_name=name, storage=database).trials
    finally:
        database.engine.dispose()  # asked again and again, it would use up a server's connections


def children_of(pid: int) -> list[int]:
    """Every living process below this one."""
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # it has ended since its parent was asked
        return found
    for task in tasks:
        try:
            children = [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *children_of(child)]
    return found


def machine(folder: Path, shop: Shop) -> Path:
    """A working directory of its own, over the one catalogue."""
    folder.mkdir()
    (folder / "data").symlink_to(shop.folder / "data")
    return folder


def wait_for(condition: Callable[[], bool], what: str, workers: "Sequence[subprocess.Popen[str]]") -> None:
    for _ in range(1800):
        if condition():
            return
        over = [worker for worker in workers if worker.poll() is not None]
        assert not over, over[0].communicate()[1][-3000:]
        time.sleep(0.1)
    pytest.fail(f"in vain waited for {what}")


def end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def mlflow_runs(folder: Path) -> list[tuple[str, str, dict[str, str]]]:
    """(name, status, tags) of every run, read from MLflow's tables: an import of mlflow takes seconds."""
    with sqlite3.connect(folder / "outputs/mlflow.db") as database:
        rows = database.execute("select run_uuid, name, status from runs").fetchall()
        tags: dict[str, dict[str, str]] = {}
        for run, key, value in database.execute("select run_uuid, key, value from tags"):
            tags.setdefault(run, {})[key] = value
    return [(name, status, tags.get(run, {}) | {"run_id": run}) for run, name, status in rows]


def params_of(trials: Sequence[FrozenTrial]) -> list[tuple[int, str, dict[str, object], list[float] | None]]:
    return [(t.number, t.state.name, dict(t.params), t.values) for t in trials]
