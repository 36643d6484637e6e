"""Many workers, one study, one real PostgreSQL; and what happens while it is away."""

import re
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.experiment.conftest import Shop
from tests.experiment.sweeps import machine, start_sweep, trials_of, wait_for
from tests.services import Postgres, postgres


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("server")) as running:
        yield running


def ended(errors: str) -> list[int]:
    """Numbers of the trials whose end a worker told."""
    return [
        int(number)
        for number in re.findall(r"^trial +(\d+)  (?:complete|pruned|failed)", errors, re.MULTILINE)
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("num_workers", [2, pytest.param(4, marks=pytest.mark.acceptance)])
def test_workers_share_a_study_exactly(
    num_workers: int, server: Postgres, shop: Shop, tmp_path: Path
) -> None:
    name = f"shared-{num_workers}"
    more = [f"storage={server.url}", f"study_name={name}", "n_trials=8", "n_jobs=1", "tracking=off"]
    workers = [start_sweep(machine(tmp_path / str(k), shop), *more) for k in range(num_workers)]
    told = [worker.communicate(timeout=600) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * num_workers, told
    trials = trials_of(server.url, name)
    assert [trial.number for trial in trials] == list(range(8))
    assert all(trial.state.is_finished() for trial in trials)
    numbers = [number for _, errors in told for number in ended(errors)]
    assert sorted(numbers) == list(range(8)), "each trial's end was told once, by one worker"
    assert sum(bool(ended(errors)) for _, errors in told) >= 2, "more than one worker had work"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dead_workers_trial_is_taken_over(server: Postgres, shop: Shop, tmp_path: Path) -> None:
    """Two workers die in the middle of a trial; a third finishes both, one at once, one when its lease is stale."""
    more = [
        f"storage={server.url}",
        "study_name=taken",
        "n_trials=2",
        "n_jobs=1",
        "tracking=off",
    ]
    more += [
        "trainer.max_epochs=120",
        "trainer.patience=120",
        "hydra.sweeper.lease_s=4",
        "hydra.sweeper.pruner.n_startup_trials=99",
    ]
    folders = [machine(tmp_path / name, shop) for name in ("one", "two")]
    workers = [start_sweep(folder, *more) for folder in folders]
    wait_for(lambda: len(at_work(server, "taken")) == 2, "two trials that have come some way", workers)
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.communicate()
    left = at_work(server, "taken")
    # One of them looks as if it were another machine's: nobody here can ask whether its process lives.
    far, near = sorted(left)
    study = optuna.load_study(study_name="taken", storage=server.url)
    lease = left[far].user_attrs["lease"] | {"host": "elsewhere"}
    study._storage.set_trial_user_attr(left[far]._trial_id, "lease", lease)
    owner = next(f for f in folders if (f / "outputs" / left[near].user_attrs["run"]).is_dir())
    third = start_sweep(owner, *more)
    _, errors = third.communicate(timeout=300)
    assert third.returncode == 0, errors
    for number in (far, near):
        assert f"trial {number} goes on where its worker left it" in errors
    trials = trials_of(server.url, "taken")
    assert [trial.number for trial in trials] == [0, 1]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}, errors
    assert sorted(ended(errors)) == [0, 1]
    for number in (far, near):
        assert trials[number].params == left[number].params
        assert trials[number].user_attrs["run"] == left[number].user_attrs["run"]
    # From its checkpoint, not from the start: epochs that were reported before are not trained again.
    assert trials[near].intermediate_values.items() >= left[near].intermediate_values.items()


def at_work(server: Postgres, name: str) -> dict[int, FrozenTrial]:
    """Trials that somebody works on and that have had an epoch."""
    try:
        trials = trials_of(server.url, name)
    except KeyError:
        return {}
    return {
        trial.number: trial
        for trial in trials
        if trial.state == TrialState.RUNNING and trial.intermediate_values and trial.user_attrs.get("lease")
    }
