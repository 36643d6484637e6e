"""What becomes of a trial's process when the sweep that it belongs to is killed."""

from pathlib import Path

from rakuten.experiment.pruning import Trial
from rakuten.experiment.runs import new_run_id, read_run
from rakuten.experiment.sweep.process import TrialProcesses
from rakuten.experiment.sweep.trial import Job
from tests.experiment.conftest import MakeTrain


def test_a_trial_whose_sweep_is_gone_is_interrupted_and_has_not_failed(
    train_config: MakeTrain, tmp_path: Path
) -> None:
    """Whoever takes it over goes on with it: the pipe may be seen to end before the process itself does."""
    config = train_config("trainer=cpu", "trainer.max_epochs=500", "trainer.patience=500", model="text_small")
    trial = Trial(new_run_id(), "tiny", 0, {})
    process = TrialProcesses(tracked=False).start(Job(config, trial, tmp_path / "trial.log", gpu=None))
    process.pipe.close()
    process.process.join(240)
    said = (tmp_path / "trial.log").read_text()
    assert process.process.exitcode == 1, said
    assert "Traceback" not in said
    run = read_run(config.outputs_dir / trial.run_id)
    assert run is not None
    assert run.state == "running"
    assert run.is_abandoned
