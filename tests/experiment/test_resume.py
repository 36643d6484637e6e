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

LONG = ["trainer.max_epochs=4", "optim.ema=0.9", "trainer.batch_size=24", "trainer.token_budget=600"]


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


def test_same_seed_same_weights_and_another_seed_others(train_config: MakeTrain) -> None:
    first, again = train(train_config(), Told()), train(train_config(), Told())
    other = train(train_config("seed=1"), Told())
    assert first != again
    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_interrupted_keeps_the_best_and_resumes_to_the_bit(train_config: MakeTrain, tmp_path: Path) -> None:
    undisturbed = train(train_config(*LONG, f"outputs_dir={tmp_path / 'calm'}"), Told())
    config = train_config(*LONG, "resume=true")
    told = Told({"epoch   3/4": ctrl_c})
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
    assert [line[:11] for line in told.lines if line.startswith("epoch")] == ["epoch   3/4", "epoch   4/4"]
    assert same_weights(bundle, undisturbed)
    assert state(run) == "finished"
    assert not (run / "checkpoints/last.ckpt").exists()


def test_every_epoch_is_validated_whatever_its_number_of_batches(train_config: MakeTrain) -> None:
    told = Told()
    train(train_config(*LONG, "trainer.max_epochs=6"), told)
    assert [line[:11] for line in told.lines if line.startswith("epoch")] == [
        f"epoch   {k}/6" for k in range(1, 7)
    ]


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
    interrupted = Told({"test products": ctrl_c})

    def stop(*_: object) -> None:
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


def test_resume_says_why_it_starts_anew(train_config: MakeTrain) -> None:
    config = train_config("resume=true", "trainer.max_epochs=1")
    told = Told()
    first = train(config, told)
    assert "no interrupted run of this config and data" in told.text
    told = Told()
    second = train(config, told)
    assert f"run {first.parent.name} of this config and data has finished already" in told.text
    assert second != first
    interrupted = train_config("seed=5")
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, Told({"epoch   2/2": ctrl_c}))
    told = Told()
    train(train_config("resume=true", "seed=6", "trainer.max_epochs=1"), told)
    assert "resuming" not in told.text
    assert "starting a new one" in told.text
