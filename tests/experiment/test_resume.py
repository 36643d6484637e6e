"""Interrupted, killed, resumed: the answer is the one of a run that nobody disturbed."""

import json
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from rakuten.config import TrainConfig
from rakuten.errors import RakutenError
from rakuten.experiment.train import train
from rakuten.model.bundle import Predictor
from tests.experiment.conftest import DEMO, FUSION, LOOP, MakeTrain, Told, run_script, start_script

# Batches of few products and tokens, so that their number differs from epoch to epoch.
LONG = ["trainer.max_epochs=3", "optim.ema=0.9", "trainer.batch_size=4", "trainer.token_budget=100"]


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors")
    return first.keys() == second.keys() and all((first[key] == second[key]).all() for key in first)


def run_of(config: TrainConfig) -> Path:
    [run] = config.outputs_dir.iterdir()
    return run


def state(run: Path) -> str:
    return json.loads((run / "checkpoints/run.json").read_text())["state"]


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_same_seed_same_weights_and_another_seed_others(train_config: MakeTrain) -> None:
    first, again = train(train_config(), Told()), train(train_config(), Told())
    other = train(train_config("seed=1"), Told())
    assert first != again
    assert same_weights(first, again)
    assert not same_weights(first, other)


def epochs(told: Told) -> list[str]:
    return [line[:11] for line in told.lines if line.startswith("epoch")]


@pytest.mark.slow
def test_interrupted_keeps_the_best_and_resumes_to_the_bit(train_config: MakeTrain, tmp_path: Path) -> None:
    calm = Told()
    undisturbed = train(train_config(*LONG, f"outputs_dir={tmp_path / 'calm'}"), calm)
    # Cut by length, epochs differ in their number of batches; all are validated.
    assert epochs(calm) == [f"epoch   {k}/3" for k in (1, 2, 3)]
    config = train_config(*LONG, "resume=true")
    told = Told({"epoch   3/3": ctrl_c})
    with pytest.raises(KeyboardInterrupt):
        train(config, told)
    run = run_of(config)
    assert state(run) == "killed"
    assert "keeping the best model so far" in told.text
    assert len(Predictor.load(run / "bundle").labels) == 27
    assert json.loads((run / "evaluation/metrics.json").read_text())["test"]["both"]["weighted_f1"] >= 0
    told = Told()
    bundle = train(config, told)
    assert bundle == run / "bundle"
    assert f"resuming run {run.name}" in told.text
    assert epochs(told) == ["epoch   3/3"]
    assert same_weights(bundle, undisturbed)
    assert state(run) == "finished"
    assert not (run / "checkpoints/last.ckpt").exists()


def test_interrupted_before_there_is_anything_to_keep(train_config: MakeTrain) -> None:
    config = train_config("resume=true")
    with pytest.raises(KeyboardInterrupt):
        train(config, Told({"epoch   1/2": ctrl_c}))
    run = run_of(config)
    assert state(run) == "killed"
    assert not (run / "bundle").exists()
    told = Told()
    assert train(config, told) == run / "bundle"
    assert f"resuming run {run.name}" in told.text


def test_a_verdict_of_early_stopping_survives_a_kill(train_config: MakeTrain, tmp_path: Path) -> None:
    """A learning rate of next to nothing never improves: it stops after 1 + patience epochs."""
    rates = ["optim.lr=1e-12", "model.text.lr=1e-12", "model.image.lr=1e-12", "optim.ema=0.0"]
    config = train_config(
        *rates, "trainer.max_epochs=9", "trainer.patience=2", "resume=true", "model.image.dropout=0"
    )
    interrupted = Told()

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rakuten.experiment.train.save_bundle", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, interrupted)
    num_epochs = sum(line.startswith("epoch") for line in interrupted.lines)
    assert num_epochs < 9
    told = Told()
    train(config, told)
    assert "resuming run" in told.text
    assert not any(line.startswith("epoch") for line in told.lines)


def test_a_crash_is_a_failed_run_with_a_clear_error(train_config: MakeTrain) -> None:
    config = train_config("optim.lr=1e30", "model.text.lr=1e30")
    with pytest.raises(RakutenError, match="training diverged: the loss is"):
        train(config, Told())
    assert state(run_of(config)) == "failed"


def test_sigterm_is_a_kill(train_config: MakeTrain) -> None:
    config = train_config()
    with pytest.raises(SystemExit) as ended:
        train(config, Told({"epoch   2/2": lambda: signal.raise_signal(signal.SIGTERM)}))
    assert ended.value.code == 128 + signal.SIGTERM
    assert state(run_of(config)) == "killed"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
def test_resume_says_why_it_starts_anew(train_config: MakeTrain) -> None:
    config = train_config("resume=true", "trainer.max_epochs=1")
    told = Told()
    first = train(config, told)
    assert "no interrupted run of this config and data" in told.text
    finished = Told({f"run {first.parent.name} of this config and data has finished already": ctrl_c})
    with pytest.raises(KeyboardInterrupt):
        train(config, finished)
    for seed in (5, 6):
        other = Told({"no interrupted run of this config and data, starting a new one": ctrl_c})
        with pytest.raises(KeyboardInterrupt):
            train(train_config("resume=true", f"seed={seed}"), other)


KILLED = [*DEMO, *FUSION, *LOOP, *LONG, "trainer=cpu", "resume=true"]


def wait_for(condition: Callable[[], bool], process_is_over: Callable[[], bool]) -> None:
    while not condition():
        assert not process_is_over(), "over before its moment came"
        time.sleep(0.02)


def statuses(folder: Path) -> dict[str, str]:
    """MLflow run id -> status, read from its tables: an import of mlflow takes seconds."""
    with sqlite3.connect(folder / "outputs/mlflow.db") as database:
        return dict(database.execute("select run_uuid, status from runs"))


@pytest.mark.slow
def test_killed_at_any_moment_then_resumed(tmp_path: Path) -> None:
    """While it reads the data, before its first checkpoint, after it: kill -9, then the same command again."""
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    calm.mkdir()
    wild.mkdir()
    undisturbed = run_script("train", [*KILLED, "tracking=off"], calm)
    assert undisturbed.returncode == 0, undisturbed.stderr
    moments = random.Random(0)
    reached = {
        "data": lambda: (wild / "data/demo").exists(),
        "run": lambda: any(wild.glob("outputs/*/checkpoints/run.json")),
        "checkpoint": lambda: any(wild.glob("outputs/*/checkpoints/last.ckpt")),
    }
    for moment in reached.values():
        process = start_script("train", KILLED, wild)
        wait_for(moment, lambda process=process: process.poll() is not None)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.communicate()
    assert "RUNNING" in statuses(wild).values()
    [run] = [path.parent.parent for path in wild.glob("outputs/*/checkpoints/run.json")]
    resumed = run_script("train", KILLED, wild)
    assert resumed.returncode == 0, resumed.stderr
    assert f"run {run.name} had been killed" in resumed.stderr
    assert f"resuming run {run.name}" in resumed.stderr
    bundle = wild / resumed.stdout.strip()
    assert bundle == run / "bundle"
    assert same_weights(bundle, calm / undisturbed.stdout.strip())
    finished = statuses(wild)
    assert finished[json.loads((run / "checkpoints/run.json").read_text())["tracking_id"]] == "FINISHED"
    assert "RUNNING" not in finished.values()


@pytest.mark.slow
def test_ctrl_c_from_a_shell(tmp_path: Path) -> None:
    """Exit code 130, no traceback, the best model so far kept, KILLED; and on with the same command."""
    arguments = [*KILLED, "trainer.max_epochs=200", "trainer.patience=200"]
    process = start_script("train", arguments, tmp_path)
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch   2/" in line:
            break
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "keeping the best model so far" in errors
    assert output == ""
    [bundle] = tmp_path.glob("outputs/*/bundle")
    assert len(Predictor.load(bundle).labels) == 27
    assert list(statuses(tmp_path).values()) == ["KILLED"]
    early = start_script("train", arguments, tmp_path)
    assert early.stderr is not None
    for line in early.stderr:
        if "resuming run" in line:
            break
    early.send_signal(signal.SIGTERM)
    _, errors = early.communicate(timeout=120)
    assert early.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    assert list(statuses(tmp_path).values()) == ["KILLED"]
