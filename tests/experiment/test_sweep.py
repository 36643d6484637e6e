"""A study by the real script: what it leaves behind, what it says, and that nothing makes it lose a trial."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from rakuten.model.bundle import Predictor
from tests.conftest import made_once
from tests.experiment.conftest import Shop, run_script
from tests.experiment.sweeps import (
    TINY,
    children_of,
    finish_sweep,
    machine,
    mlflow_runs,
    params_of,
    start_sweep,
    sweep_command,
    trials_of,
    wait_for,
)

LOCAL = "sqlite:///outputs/sweeps.db"


def storage_of(folder: Path) -> str:
    return f"sqlite:///{folder}/outputs/sweeps.db"


@pytest.fixture(scope="module")
def swept(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A working directory with a study of six trials, and what the command said on stdout and stderr; shared."""

    def sweep(made: Path) -> None:
        done = finish_sweep(
            machine(made / "here", shop),
            *("n_trials=6", "hydra.sweeper.pruner.n_startup_trials=1", "pruner.n_min_trials=1"),
        )
        (made / "said.json").write_text(json.dumps([done.stdout, done.stderr]))

    made = made_once(tmp_path_factory, "swept", sweep)
    output, errors = json.loads((made / "said.json").read_text())
    return made / "here", output, errors


def test_the_last_line_on_stdout_is_the_best_trials_bundle(swept: tuple[Path, str, str]) -> None:
    folder, output, _ = swept
    best = max(
        (trial for trial in trials_of(storage_of(folder)) if trial.state == TrialState.COMPLETE),
        key=lambda trial: trial.values[0],
    )
    assert output == f"outputs/{best.user_attrs['run']}/bundle\n"
    predictor = Predictor.load(folder / output.strip())
    # The objective is the best checkpoint's score, and that is the one in the bundle.
    assert predictor.info["metrics"]["val"]["both"]["weighted_f1"] == pytest.approx(best.values[0], abs=1e-9)
    assert max(best.intermediate_values.values()) == pytest.approx(best.values[0], abs=1e-6)


def test_mlflow_has_one_parent_and_a_child_a_trial(swept: tuple[Path, str, str]) -> None:
    folder, _, _ = swept
    runs = {name: (status, tags) for name, status, tags in mlflow_runs(folder)}
    assert len(runs) == len(mlflow_runs(folder)) == 7
    status, parent = runs.pop("tiny")
    assert status == "FINISHED"
    for trial in trials_of(storage_of(folder)):
        status, tags = runs[f"trial-{trial.number:03d}"]
        assert tags["mlflow.parentRunId"] == parent["run_id"]
        assert (tags["rakuten.study"], tags["rakuten.trial"]) == ("tiny", str(trial.number))
        is_pruned = trial.state == TrialState.PRUNED
        assert (status, tags["rakuten.state"]) == (
            ("KILLED", "pruned") if is_pruned else ("FINISHED", "finished")
        )
        assert ("rakuten.reason" in tags) == is_pruned
    best = yaml.safe_load((folder / "outputs/sweeps/tiny/best.yaml").read_text())
    assert parent["best.trial"] == str(best["trial"])
    assert all(parent[f"best.{name}"] == str(value) for name, value in best["params"].items())
    artifacts = folder / "outputs/mlartifacts" / parent["run_id"] / "artifacts"
    assert {path.name for path in artifacts.iterdir()} == {"bundle", "plots", "best.yaml", "trials.csv"}


def test_the_study_leaves_its_folder_and_nothing_pending(swept: tuple[Path, str, str]) -> None:
    folder, _, _ = swept
    left = {path.name for path in (folder / "outputs/sweeps/tiny").iterdir()}
    assert left == {"best.yaml", "trials.csv", "plots"} | {f"trial-{number:03d}.log" for number in range(6)}
    with (folder / "outputs/sweeps/tiny/trials.csv").open() as table:
        assert len(list(csv.DictReader(table))) == 6
    page = (folder / "outputs/sweeps/tiny/plots/study.html").read_text()
    for title in ("history", "importance of the parameters", "parallel coordinates"):
        assert f"weighted f1: {title}" in page
    assert not list((folder / "outputs").rglob("*.jsonl*"))
    assert not list((folder / "outputs").rglob("last.ckpt"))


def test_what_people_are_told(swept: tuple[Path, str, str]) -> None:
    _, _, said = swept
    assert len(re.findall(r"^trial +\d+  (?:complete|pruned) ", said, re.MULTILINE)) == 6
    for text in (
        "bundle   outputs/",
        "judge    python scripts/evaluate.py",
        "retrain  python scripts/train.py",
    ):
        assert text in said
    assert f"optuna-dashboard {LOCAL}" in said
    assert "mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db" in said
    assert not re.search(r"Traceback|Warning|INFO", said)


@pytest.mark.slow
def test_the_retrain_command_trains_the_winner(swept: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, (_, output, said) = tmp_path / "again", swept
    shutil.copytree(swept[0], folder, symlinks=True)
    [line] = re.findall(r"^retrain  python scripts/train.py (.*)$", said, re.MULTILINE)
    again = run_script("train", [*shlex.split(line), "tracking=off"], folder)
    assert again.returncode == 0, again.stderr
    one, other = Predictor.load(folder / output.strip()), Predictor.load(folder / again.stdout.strip())
    score = one.info["metrics"]["val"]["both"]["weighted_f1"]
    assert other.info["metrics"]["val"]["both"]["weighted_f1"] == pytest.approx(score)


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_more_trials_go_on(
    swept: tuple[Path, str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(swept[0], folder, symlinks=True)
    settings = ["hydra.sweeper.pruner.n_startup_trials=1", "pruner.n_min_trials=1", "tracking=off"]
    before = params_of(trials_of(storage_of(folder)))
    again = finish_sweep(folder, "n_trials=6", *settings)
    assert again.stdout == swept[1]
    assert "trial   6" not in again.stderr
    assert params_of(trials_of(storage_of(folder))) == before
    finish_sweep(folder, "n_trials=7", *settings)
    assert params_of(trials_of(storage_of(folder)))[:6] == before
    assert len(trials_of(storage_of(folder))) == 7
    other = start_sweep(folder, "n_trials=7", *settings, "trainer.batch_size=16")
    _, errors = other.communicate()
    assert other.returncode == 1
    assert "trainer.batch_size: 64 -> 16" in errors


@pytest.mark.slow
def test_trials_that_fail_are_recorded_and_the_study_goes_on(shop: Shop, tmp_path: Path) -> None:
    """One kind diverges, one asks for more memory than there is, one is well."""
    folder = machine(tmp_path / "here", shop)
    space = [
        "hydra/sweeper=optuna", "study_name=bad", "sampler=grid", "n_trials=null", "pruner=none",
        "model.text.lr=choice(0.01,1e30)", "model.text.embedding_dim=choice(8,4000000000)",
    ]  # fmt: skip
    done = run_script("train", ["-m", *space, *TINY], folder)
    assert done.returncode == 0, done.stderr
    trials = trials_of(storage_of(folder), "bad")
    states = {(t.params["model.text.lr"], t.params["model.text.embedding_dim"]): t for t in trials}
    assert len(trials) == len(states) == 4
    assert states[0.01, 8].state == TrialState.COMPLETE
    assert all(trial.state == TrialState.FAIL for key, trial in states.items() if key != (0.01, 8))
    assert "training diverged: the loss is" in states[1e30, 8].user_attrs["reason"]
    for rate in (0.01, 1e30):
        reason = states[rate, 4_000_000_000].user_attrs["reason"]
        assert "out of memory, tried again with half the batch" in reason
        assert "memory" in reason.partition(";")[2]
    runs = {name: (status, tags) for name, status, tags in mlflow_runs(folder)}
    assert len(runs) == len(mlflow_runs(folder)) == 5, "the second try is the same run"
    for trial in trials:
        status, tags = runs[f"trial-{trial.number:03d}"]
        is_complete = trial.state == TrialState.COMPLETE
        assert status == ("FINISHED" if is_complete else "FAILED")
        assert is_complete or tags["rakuten.reason"]
    assert "failed  trial" in done.stderr


@pytest.mark.slow
def test_a_trial_that_always_dies_is_given_up(shop: Shop, tmp_path: Path) -> None:
    folder = machine(tmp_path / "here", shop)
    process = start_sweep(folder, "n_trials=2", "n_jobs=1", "study_name=dies")
    log = folder / "outputs/sweeps/dies/trial-000.log"
    wait_for(log.exists, "the first trial", [process])
    # A look at the storage takes as long as a tiny trial does on a busy machine: the next log says it too.
    while process.poll() is None and not log.with_name("trial-001.log").exists():
        for child in children_of(process.pid):
            if log.resolve() in open_files(child):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    first, second = trials_of(storage_of(folder), "dies")
    assert first.state == TrialState.FAIL
    assert first.user_attrs["reason"] == "its process ended with signal 9, 5 times in a row within one epoch"
    assert second.state == TrialState.COMPLETE
    assert {name: status for name, status, _ in mlflow_runs(folder)} == {
        "dies": "FINISHED",
        "trial-000": "FAILED",
        "trial-001": "FINISHED",
    }


def open_files(pid: int) -> list[Path]:
    try:
        return [path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.acceptance)]
)
def test_stopped_from_a_shell_then_gone_on_with(number: signal.Signals, shop: Shop, tmp_path: Path) -> None:
    """Ctrl-C reaches every process of a terminal at once; the sweep alone answers."""
    folder = machine(tmp_path / "here", shop)
    more = ["n_trials=3", "n_jobs=2", "trainer.max_epochs=30", "trainer.patience=30"]
    process = start_sweep(folder, *more)
    wait_for(
        lambda: any(trial.intermediate_values for trial in trials_or_none(folder)), "a first epoch", [process]
    )
    for pid in [*children_of(process.pid), process.pid] if number == signal.SIGINT else [process.pid]:
        os.kill(pid, number)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + signal.SIGTERM), errors
    assert output == ""
    assert "Traceback" not in errors
    assert "study tiny is stopped; the same command goes on with it" in errors
    assert {status for _, status, _ in mlflow_runs(folder)} <= {"KILLED", "FINISHED"}
    assert {name: status for name, status, _ in mlflow_runs(folder)}["tiny"] == "KILLED"
    done = finish_sweep(folder, *more)
    assert "goes on where its worker left it" in done.stderr
    assert [trial.number for trial in trials_of(storage_of(folder))] == [0, 1, 2]
    assert {name: status for name, status, _ in mlflow_runs(folder)}["tiny"] == "FINISHED"


def trials_or_none(folder: Path) -> list[object]:
    try:
        return list(trials_of(storage_of(folder)))
    except Exception:
        return []


@pytest.mark.slow
def test_no_trial_that_completes_is_an_error(shop: Shop, tmp_path: Path) -> None:
    folder = machine(tmp_path / "here", shop)
    space = ["hydra/sweeper=optuna", "study_name=none", "n_trials=2", "model.text.lr=choice(1e30,1e31)"]
    done = run_script("train", ["-m", *space, *TINY], folder)
    assert done.returncode == 1
    assert "no trial of study none completed" in done.stderr
    assert "trial-000.log" in str(list((folder / "outputs/sweeps/none").iterdir()))
    assert {name: status for name, status, _ in mlflow_runs(folder)}["none"] == "FAILED"


def test_wrong_before_any_training(shop: Shop, tmp_path: Path) -> None:
    folder = machine(tmp_path / "here", shop)
    done = run_script("train", sweep_command("optim.lrr=interval(0,1)", "optim.warmup=range(3,1)"), folder)
    assert done.returncode == 2
    assert done.stderr.startswith("2 mistakes in the configuration")
    assert not (folder / "outputs").exists()
