"""A study's memory: what it proposes, who holds a trial, what counts. No training here: scores are computed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from rakuten.cli import CONF_DIR
from rakuten.cli.composer import Composer
from rakuten.cli.entry import checked
from rakuten.cli.sweep import Sweep, plan
from rakuten.config import TrainConfig
from rakuten.config.space import Value
from rakuten.errors import RakutenError
from rakuten.experiment.sweep.samplers import grid, num_trials
from rakuten.experiment.sweep.study import Claim, Ending, Study, open_study

COMPOSER = Composer("train", CONF_DIR)
DEFINITION: dict[str, Any] = {"space": {}, "objective": {}, "settings": {}}
SAMPLERS = ["tpe", "gp", "cmaes", "random", "nsgaii"]
FAST = ["sampler.n_startup_trials=3"]


def sweep_of(folder: Path, *arguments: str) -> Sweep:
    storage = f"storage=sqlite:///{folder}/studies.db"
    overrides = checked(COMPOSER, [*arguments, storage], TrainConfig, True, []).overrides
    hydras = [each for each in overrides if each.startswith("hydra")]
    task = [each for each in overrides if each not in hydras]
    composed = COMPOSER.compose([*(each for each in task if "(" not in each), *hydras])
    return plan(COMPOSER.loader, composed, task, TrainConfig)[0]


def opened(sweep: Sweep, name: str = "study", definition: dict[str, Any] = DEFINITION) -> Study:
    return open_study(sweep.settings, sweep.space, name, definition, max_epochs=6)


def scored(params: dict[str, Value]) -> float:
    numbers = [float(value) for value in params.values() if isinstance(value, int | float)]
    return 1 / (1 + sum(abs(math.log(abs(number) + 1e-3)) for number in numbers)) + 0.01 * len(numbers)


def train(study: Study, claim: Claim) -> Ending:
    """Six epochs that creep up to the parameters' score."""
    score = scored(claim.params)
    for epoch in range(1, 7):
        if study.report(claim, epoch, score * (1 - 0.5**epoch)):
            return Ending("pruned", {"train_s": float(epoch)}, f"pruned after epoch {epoch}")
    return Ending("complete", {"weighted_f1": score, "latency_ms": 1 / score, "train_s": 6.0})


def outcome(study: Study) -> list[tuple[int, str, dict[str, Any], list[float] | None]]:
    return [(t.number, t.state.name, dict(t.params), t.values) for t in study.trials()]


def run(sweep: Sweep, number: int, *, is_killed: bool) -> Study:
    """All trials of a study by one worker; killed, it dies in every third trial's middle, and another goes on."""
    study, turn = opened(sweep), 0
    while isinstance(claim := study.claim(number), Claim):
        turn += 1
        if is_killed and turn % 3 == 0 and not claim.taken_over:
            study.report(claim, 1, 0.5 * scored(claim.params))
            study.release(claim)
            study = opened(sweep)
        else:
            study.tell(claim, train(study, claim))
    assert claim == "done"
    return study


MARKS = {
    "gp": pytest.mark.slow,
    "nsgaii": pytest.mark.slow,
    "cmaes": pytest.mark.acceptance,
    "random": pytest.mark.acceptance,
}


@pytest.mark.parametrize(
    "sampler",
    [pytest.param(each, marks=MARKS.get(each, ())) for each in SAMPLERS],
)
def test_a_study_that_was_killed_proposes_what_it_would_have(sampler: str, tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    (tmp_path / "wild").mkdir()
    arguments = ["sweep=fusion", f"sampler={sampler}", *(FAST if sampler in ("tpe", "gp", "cmaes") else [])]
    calm = run(sweep_of(tmp_path / "calm", *arguments), 12, is_killed=False)
    wild = run(sweep_of(tmp_path / "wild", *arguments), 12, is_killed=True)
    assert outcome(calm) == outcome(wild)
    assert [trial.number for trial in calm.trials()] == list(range(12))
    assert len({str(trial.params) for trial in calm.trials()}) == 12
    assert any(trial.state == TrialState.PRUNED for trial in calm.trials())


def test_another_seed_proposes_other_trials(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        study = run(
            sweep_of(tmp_path / str(seed), "sweep=fusion", f"sampler.seed={seed}"), 3, is_killed=False
        )
        found.append(outcome(study))
    assert found[0] != found[1]


def test_parameters_are_drawn_where_they_apply(tmp_path: Path) -> None:
    study = run(sweep_of(tmp_path, "sweep=fusion", "sampler=random"), 15, is_killed=False)
    for trial in study.trials():
        is_late = trial.params["model/fusion"] == "late"
        assert ("model.fusion.image_weight" in trial.params) == is_late
        assert ("model.fusion.hidden_dim" in trial.params) != is_late


def test_a_grid_is_walked_once(tmp_path: Path) -> None:
    arguments = [
        "hydra/sweeper=optuna", "sampler=grid", "n_trials=null", "pruner=none",
        "model/fusion=choice(concat,late)", "optim.ema=range(0.0,0.2,0.1)",
        "model.fusion.image_weight=tag('model/fusion=late',choice(0.5,1.0))",
    ]  # fmt: skip
    sweep = sweep_of(tmp_path, *arguments)
    assert num_trials(sweep.settings, sweep.space) == len(grid(sweep.space)) == 3 + 3 * 2
    study = run(sweep, 9, is_killed=True)
    drawn = [tuple(sorted(trial.params.items())) for trial in study.trials()]
    assert len(set(drawn)) == 9
    assert {tuple(sorted(cell.items())) for cell in grid(sweep.space)} == set(drawn)


def test_several_objectives(tmp_path: Path) -> None:
    study = run(sweep_of(tmp_path, "sweep=latency"), 6, is_killed=True)
    front = study.front()
    assert front
    assert all(len(trial.values) == 2 for trial in study.trials())
    assert study.optuna.metric_names == ["weighted_f1", "latency_ms"]


def test_warm_start_from_values_and_from_a_studys_best(tmp_path: Path) -> None:
    first = run(sweep_of(tmp_path, "sweep=fusion"), 6, is_killed=False)
    best = first.optuna.best_trial
    given = {"model/fusion": "gated", "optim.lr": 0.002}
    sweep = sweep_of(
        tmp_path, "sweep=fusion", "warm_start=[{model/fusion: gated, optim.lr: 0.002}, {study: study}]"
    )
    study = opened(sweep, "second")
    for expected in (given, best.params):
        claim = study.claim(5)
        assert isinstance(claim, Claim)
        assert claim.params.items() >= expected.items()
        study.tell(claim, train(study, claim))
    with pytest.raises(RakutenError, match="no study 'none such'"):
        opened(sweep_of(tmp_path, "sweep=fusion", "warm_start=[{study: none such}]"), "third")


def test_another_studys_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "sweep=fusion")
    before = {"space": {"optim.lr": "interval(0,1)", "a": "1"}, "settings": {"seed": 0}, "catalogue": "x"}
    opened(sweep, definition=before)
    opened(sweep, definition=before)
    now = {"space": {"optim.lr": "interval(0,2)", "b": "2"}, "settings": {"seed": 0}, "catalogue": "y"}
    with pytest.raises(RakutenError) as raised:
        opened(sweep, definition=now)
    for line in (
        "optim.lr: interval(0,1) -> interval(0,2)",
        "a: 1 -> absent",
        "b: absent -> 2",
        "catalogue: x -> y",
    ):
        assert line in str(raised.value)
    assert "seed" not in str(raised.value)
    assert "study_name=ANOTHER" in str(raised.value)


def test_failed_and_pruned_count_and_say_why(tmp_path: Path) -> None:
    study = opened(sweep_of(tmp_path, "sweep=fusion"))
    endings: Sequence[Ending] = [
        Ending("failed", {"train_s": 1.0}, "training diverged"),
        Ending("failed", {}, "out of memory"),
        Ending("complete", {"weighted_f1": 0.5}),
    ]
    for ending in endings:
        claim = study.claim(3)
        assert isinstance(claim, Claim)
        study.tell(claim, ending)
    assert study.claim(3) == "done"
    assert [trial.user_attrs.get("reason") for trial in study.trials()] == [
        "training diverged",
        "out of memory",
        None,
    ]


def test_an_end_is_told_once(tmp_path: Path) -> None:
    """The slower of two workers that both trained a trial changes nothing."""
    sweep = sweep_of(tmp_path, "sweep=fusion")
    one, two = opened(sweep), opened(sweep)
    claim = one.claim(2)
    assert isinstance(claim, Claim)
    one.release(claim)
    again = two.claim(2)
    assert isinstance(again, Claim)
    assert (again.number, again.params, again.run_id, again.taken_over) == (
        0,
        claim.params,
        claim.run_id,
        True,
    )
    two.tell(again, Ending("complete", {"weighted_f1": 0.7}))
    one.tell(claim, Ending("complete", {"weighted_f1": 0.1}))
    assert [trial.value for trial in one.trials()] == [0.7]


def test_a_lease_of_another_machine_goes_stale_by_the_watchers_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_of(tmp_path, "sweep=fusion", "hydra.sweeper.lease_s=10")
    far, near = opened(sweep), opened(sweep)
    far._me = {"host": "elsewhere", "pid": 1, "started": 5.0}
    now = 1000.0
    monkeypatch.setattr("rakuten.experiment.sweep.study.time.monotonic", lambda: now)
    claim = far.claim(1)
    assert isinstance(claim, Claim)
    assert near.claim(1) == "wait"
    now += 9
    assert near.claim(1) == "wait"
    assert far.renew() == []
    now += 9
    assert near.claim(1) == "wait", "it was renewed meanwhile"
    now += 11
    taken = near.claim(1)
    assert isinstance(taken, Claim)
    assert taken.params == claim.params
    assert [lost.number for lost in far.renew()] == [0], "who lost a trial is told so"


def test_a_number_that_is_raised_goes_on_with_the_study(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "sweep=fusion")
    whole = outcome(run(sweep_of(tmp_path, "sweep=fusion"), 6, is_killed=False))
    (tmp_path / "more").mkdir()
    sweep = sweep_of(tmp_path / "more", "sweep=fusion")
    run(sweep, 4, is_killed=False)
    assert outcome(run(sweep, 6, is_killed=False)) == whole


@pytest.mark.parametrize(
    "storage", ["postgresql+psycopg://someone:hunter2@127.0.0.1:9/none", "sqlite:////proc/none/such.db"]
)
def test_a_storage_out_of_reach_is_a_clear_error(storage: str, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "sweep=fusion")
    settings = optuna_settings(sweep, storage)
    with pytest.raises(RakutenError, match="cannot be opened") as raised:
        open_study(settings, sweep.space, "study", DEFINITION, 6)
    assert "hunter2" not in str(raised.value)


def optuna_settings(sweep: Sweep, storage: str) -> Any:
    from dataclasses import replace

    return replace(sweep.settings, storage=storage)  # type: ignore[type-var]


def test_a_study_made_by_hand_is_taken_as_it_is(tmp_path: Path) -> None:
    """Made in optuna-dashboard, say: it has no definition yet, and gets this one."""
    sweep = sweep_of(tmp_path, "sweep=fusion")
    optuna.create_study(study_name="study", storage=sweep.settings.storage, direction="maximize")
    study = run(sweep, 2, is_killed=False)
    assert len(study.trials()) == 2
