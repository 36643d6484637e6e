"""What a study may be told on the command line and in conf/sweep/, and what it is told back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rakuten.cli import CONF_DIR, compose
from rakuten.cli.composer import Composer
from rakuten.cli.entry import checked
from rakuten.cli.schema_keys import key_types
from rakuten.cli.space import ordered, read_spec, to_param
from rakuten.cli.sweep import Sweep, plan
from rakuten.config import TrainConfig
from rakuten.config.space import Choice, Condition, Interval, Param, first_trial
from rakuten.errors import ConfigError

KINDS = key_types(TrainConfig)
STUDY = "hydra/sweeper=optuna"
SWEEPS = sorted(path.stem for path in (CONF_DIR / "sweep").glob("*.yaml"))
SAMPLERS = sorted(path.stem for path in (CONF_DIR / "hydra/sweeper/sampler").glob("*.yaml"))
PRUNERS = sorted(path.stem for path in (CONF_DIR / "hydra/sweeper/pruner").glob("*.yaml"))


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer("train", CONF_DIR)


def check(composer: Composer, *arguments: str) -> list[str]:
    """The command line that Hydra would be given."""
    return checked(composer, list(arguments), TrainConfig, True, []).overrides


def read(composer: Composer, *arguments: str) -> Sweep:
    """The study that these arguments mean, as the sweeper's plugin reads it."""
    overrides = check(composer, *arguments)
    hydras = [each for each in overrides if each.startswith("hydra")]
    task = [each for each in overrides if each not in hydras]
    composed = composer.compose([*[each for each in task if "(" not in each], *hydras])
    sweep, _ = plan(composer.loader, composed, task, TrainConfig)
    return sweep


def mistake(composer: Composer, *arguments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(composer, *arguments)
    return str(caught.value)


def param(text: str) -> Any:
    return to_param(read_spec(text, KINDS), KINDS)  # type: ignore[arg-type]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_shipped_sweep_is_a_study(composer: Composer, sweep: str) -> None:
    found = read(composer, f"sweep={sweep}")
    assert found.name == sweep
    assert found.space
    assert len(found.settings.objective) == len(found.settings.direction)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("pruner", PRUNERS)
def test_every_sampler_and_pruner(composer: Composer, sampler: str, pruner: str) -> None:
    found = read(
        composer, STUDY, f"sampler={sampler}", f"pruner={pruner}", "model/fusion=choice(concat,late)"
    )
    assert found.settings.sampler.kind == sampler
    assert found.settings.pruner.kind == pruner


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "optim.lr=interval(0.1,1)",
            Interval("optim.lr", 0.1, 1.0, None, False, False, (), "interval(0.1,1)"),
        ),
        # a whole number at both ends of a key that takes fractions
        ("optim.lr=interval(1,2)", Interval("optim.lr", 1.0, 2.0, None, False, False, (), "interval(1,2)")),
        (
            "trainer.batch_size=interval(8,64)",
            Interval("trainer.batch_size", 8, 64, None, False, True, (), "interval(8,64)"),
        ),
        (
            "trainer.batch_size=tag(log, interval(8, 64))",
            Interval("trainer.batch_size", 8, 64, None, True, True, (), "tag(log, interval(8, 64))"),
        ),
        ("seed=range(3)", Interval("seed", 0, 3, 1, False, True, (), "range(3)")),
        (
            "optim.lr=range(0.1,0.5,0.1)",
            Interval("optim.lr", 0.1, 0.5, 0.1, False, False, (), "range(0.1,0.5,0.1)"),
        ),
        (
            "model/fusion=choice(concat,late)",
            Choice("model/fusion", ("concat", "late"), (), "choice(concat,late)"),
        ),
        ("seed=1,2", Choice("seed", (1, 2), (), "1,2")),
        (
            "model.text.char_ngrams=choice([0,0],[2,4])",
            Choice("model.text.char_ngrams", ("[0,0]", "[2,4]"), (), "choice([0,0],[2,4])"),
        ),
        (
            "trainer.compile=choice(true,false)",
            Choice("trainer.compile", (True, False), (), "choice(true,false)"),
        ),
        (
            "optim.ema=tag(log,'model/fusion=late|gated',interval(0.1,0.9))",
            Interval(
                "optim.ema",
                0.1,
                0.9,
                None,
                True,
                False,
                (Condition("model/fusion", ("late", "gated")),),
                "tag(log,'model/fusion=late|gated',interval(0.1,0.9))",
            ),
        ),
    ],
)
def test_forms_of_a_parameter(text: str, expected: Param) -> None:
    assert param(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("optim.lr=interval(2,1)", "the range is empty"),
        ("optim.lr=interval(1,1)", "the range is empty"),
        ("optim.lr=range(5,1)", "the range is empty"),
        ("optim.lr=interval(0,inf)", "the range is empty"),
        ("optim.lr=tag(log,interval(0,1))", "the logarithm of zero"),
        ("optim.lr=tag(log,interval(-1,1))", "the logarithm of zero"),
        ("optim.lr=tag(lgo,interval(0.1,1))", "unknown tag lgo"),
        ("optim.lr=tag(log,choice(1,2))", "a choice has no logarithm"),
        ("trainer.batch_size=tag(log,range(1,9,2))", "steps and a logarithm do not go together"),
        ("trainer.batch_size=interval(1.5,9)", "is a whole number"),
        ("trainer.accelerator=interval(0,1)", "is no number"),
        ("optim.lr=choice(1,1)", "has the value 1 twice"),
        ("optim.lr=choice()", "empty choice"),
        ("optim.lr=interval(1,2", "brackets or quotes do not match"),
        ("optim.lr=interval(a,b)", "`optim.lr`: "),
    ],
)
def test_forms_that_mean_nothing(composer: Composer, text: str, told: str) -> None:
    message = mistake(composer, STUDY, text)
    assert told in message
    assert len(message.splitlines()) <= 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["optim.lrr=interval(0.1,1)"], "there is no key `optim.lrr`\n  fix: did you mean optim.lr"),
        (["model/fusin=choice(concat,late)"], "there is no group `model/fusin`"),
        (["model/fusion=choice(concat,lat)"], "has no option `lat`\n  expected: one of concat, gated, late"),
        (["optim.warmup=interval(0,2)"], "`optim.warmup` is wrong"),
        (["optim.lr=interval(0,1)"], "`optim.lr` is wrong"),
        (["trainer.precision=choice(32-true,8-true)"], "`trainer.precision` is wrong"),
        (["model.fusion=choice(a,b)", "model.fusion.dropout=interval(0,0.5)"], "one overwrites the other"),
        (["model/fusion=choice(concat,late)", "model.fusion=choice(a,b)"], "one overwrites the other"),
        (["optim.lr=interval(0.1,1)", "optim.lr=choice(1,2)"], "`optim.lr` is given twice"),
        (["optim.lr=tag('optim.lr=2',choice(1,2))"], "go in a circle"),
        (["optim.lr=tag('model/fusin=late',choice(1,2))"], "did you mean model/fusion?"),
        (["model.text.num_layers=range(1,3)"], "`model.text.num_layers`"),
        (["model/text=choice(words,camembert_tiny)", "model.text.num_layers=range(1,3)"], "num_layers"),
        (["seed=1", "optim.lr=0.1"], "a study with nothing to vary"),
        (["seed=1,2", "n_trials=0"], "`hydra.sweeper.n_trials` is wrong"),
        (["seed=1,2", "n_trials=null"], "n_trials may be null with the grid sampler alone"),
        (["seed=1,2", "hydra.sweeper.n_trails=3"], "did you mean hydra.sweeper.n_trials"),
        (["seed=1,2", "study_name=../../elsewhere"], "`hydra.sweeper.study_name` is wrong"),
        (["seed=1,2", "storage=mysql://somewhere"], "must be sqlite:///FILE or postgresql"),
        (["seed=1,2", "storage=sqlite:///:memory:"], "must be sqlite:///FILE or postgresql"),
        (["seed=1,2", "objective=[weighted_f1,latency_ms]"], "objective and direction must be as many"),
        (
            ["seed=1,2", "objective=[weighted_f1,latency_ms]", "direction=[maximize,minimize]"],
            "a pruner judges by one objective",
        ),
        (["optim.lr=interval(0.1,1)", "sampler=grid"], "a grid needs values that can be counted"),
        (["seed=1,2", "sampler=tpee"], "tpee"),
        (["seed=1,2", "warm_start=[{optim.lr: 1}]"], "`optim.lr` is not swept"),
        (["seed=1,2", "warm_start=[{seed: 3}]"], "seed=3 is outside the search space"),
    ],
)
def test_what_a_study_cannot_be(composer: Composer, arguments: list[str], told: str) -> None:
    assert told in mistake(composer, STUDY, *arguments)


def test_all_mistakes_come_together(composer: Composer) -> None:
    message = mistake(
        composer,
        "sweep=fusion",
        "optim.lrr=interval(1,2)",
        "optim.lr=tag(log,interval(0,1))",
        "optim.warmup=range(5,1)",
        "seed=choice()",
        "hydra.sweeper.n_trails=4",
        "trainer.precision=99",
    )
    assert message.startswith("6 mistakes in the configuration")


def test_the_command_line_stands_above_the_file(composer: Composer) -> None:
    names = [each.name for each in read(composer, "sweep=fusion", "optim.lr=choice(1e-3,1e-2)").space]
    assert names.count("optim.lr") == 1
    found = read(composer, "sweep=fusion", "optim.lr=1e-3", "model/fusion=gated")
    names = [each.name for each in found.space]
    # fixed on the command line, and with it all that hangs on another fusion
    assert not {"optim.lr", "model/fusion", "model.fusion.image_weight"} & set(names)
    assert "model.fusion.dropout" in names
    assert {"optim.lr=1e-3", "model/fusion=gated"} <= set(found.fixed)


def test_a_narrower_choice_drops_what_it_rules_out(composer: Composer) -> None:
    names = [each.name for each in read(composer, "sweep=fusion", "model/fusion=choice(concat,gated)").space]
    assert "model.fusion.image_weight" not in names
    assert "model.fusion.hidden_dim" in names


def test_parameters_come_after_those_they_hang_on() -> None:
    late = param("optim.lr=tag('model/fusion=late',interval(0.1,1))")
    fusion = param("model/fusion=choice(concat,late)")
    space, mistakes = ordered([late, fusion], {}, lambda group: [])
    assert not mistakes
    assert [each.name for each in space] == ["model/fusion", "optim.lr"]
    assert first_trial(space) == {"model/fusion": "concat"}
    assert first_trial(space, {"model/fusion": "late"}) == {"model/fusion": "late", "optim.lr": 0.1}


def test_a_study_needs_many_runs_and_says_so(composer: Composer) -> None:
    with pytest.raises(ConfigError, match="add -m to the command"):
        checked(composer, ["sweep=fusion"], TrainConfig, False, [])


@pytest.mark.parametrize(
    "argument", ["n_trials=3", "sampler=gp", "optim.lr=interval(1,2)", "pruner.kind=none"]
)
@pytest.mark.parametrize("multirun", [True, False])
def test_what_is_for_a_study_alone(composer: Composer, argument: str, multirun: bool) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(composer, [argument], TrainConfig, multirun, [])
    assert "sweep=architecture|fusion|latency|optim" in str(caught.value)


def trials_of(composer: Composer, arguments: Sequence[str]) -> Any:
    overrides = check(composer, *arguments)
    hydras = [each for each in overrides if each.startswith("hydra")]
    task = [each for each in overrides if each not in hydras]
    return plan(
        composer.loader, composer.compose([each for each in overrides if "(" not in each]), task, TrainConfig
    )


def test_a_trials_config_is_that_of_its_command_line(composer: Composer, tmp_path: Path) -> None:
    _, compose_trial = trials_of(composer, ["sweep=fusion", "data.demo.num_products=400"])
    config = compose_trial({"model/fusion": "late", "model.fusion.image_weight": 0.5, "optim.lr": 0.001})
    assert config.model.fusion is not None
    assert (config.model.fusion.kind, config.model.fusion.image_weight, config.optim.lr) == (
        "late",
        0.5,
        0.001,
    )
    assert config.data.demo is not None
    assert config.data.demo.num_products == 400
    assert config.trainer.max_epochs == compose("train", ["sweep=fusion"]).trainer.max_epochs == 6
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        compose_trial({"optim.lr": -1.0})


def test_help_shows_the_study(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from rakuten.cli import run

    def main(config: TrainConfig) -> None:
        """Never called."""

    monkeypatch.setattr("sys.argv", ["train.py", "-m", "sweep=fusion", "n_trials=7", "--help"])
    run(main, TrainConfig, "train")
    shown = capsys.readouterr().out
    for text in (
        "n_trials=7",
        "finished trials",
        "sampler=tpe",
        "nsgaii",
        "model/fusion=choice(concat,gated,late)",
    ):
        assert text in shown
    monkeypatch.setattr("sys.argv", ["train.py", "-m", "seed=1,2", "--help"])
    run(main, TrainConfig, "train")
    shown = capsys.readouterr().out
    assert "seed=1,2" in shown
    assert "The study" not in shown
