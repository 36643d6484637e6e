"""A command line with a search space: what is fixed, what is swept, and which settings the study has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from rakuten.cli.composer import COMPOSE_ERRORS, Composer, explain
from rakuten.cli.mistakes import Mistake, did_you_mean, gather, nearest
from rakuten.cli.overrides import ParsedOverride, parse_override
from rakuten.cli.schema_keys import KeyType, key_types
from rakuten.cli.space import is_spec, ordered, read_spec, to_param
from rakuten.cli.validation import freeze, to_plain_dict, validate
from rakuten.config.space import Choice, Param, Space, Value, as_text
from rakuten.config.sweep import SweepConfig
from rakuten.config_io import to_flat_dict

Config = TypeVar("Config")
SWEEPER = "hydra_plugins.rakuten_sweeper.OptunaSweeper"
PREFIX = "hydra.sweeper"
SHORT_GROUPS = ("sampler", "pruner")
SETTINGS = key_types(SweepConfig)
SHORT_KEYS = tuple(key for key in SETTINGS if "." not in key and key not in (*SHORT_GROUPS, "params"))


@dataclass(frozen=True)
class Sweep:
    """What hydra.sweeper and the command line say of a study."""

    name: str  # of the option of conf/sweep/, "study" where there is none
    settings: SweepConfig
    fixed: list[str]  # overrides that all trials share
    space: Space


def long_form(argument: str) -> str:
    """`n_trials=30` -> `hydra.sweeper.n_trials=30`, `sampler=gp` -> `hydra/sweeper/sampler=gp`."""
    name, equals, value = argument.partition("=")
    if equals and name in SHORT_GROUPS:
        return f"hydra/sweeper/{name}={value}"
    if equals and name.partition(".")[0] in (*SHORT_GROUPS, *SHORT_KEYS):
        return f"{PREFIX}.{name}={value}"
    return argument


def sweeper_of(composer: Composer, arguments: Sequence[str]) -> str | None:
    """The class that would sweep; None where the groups that decide it do not compose."""
    deciding = ("sweep", "experiment", "hydra/sweeper", "+sweep", "+experiment", "hydra.sweeper._target_")
    chosen = [each for each in arguments if each.partition("=")[0] in deciding]
    try:
        return str(composer.compose(chosen).hydra.sweeper._target_)
    except COMPOSE_ERRORS:
        return None


def misplaced(arguments: Sequence[str], sweeps: Sequence[str]) -> list[Mistake]:
    """Settings of a study, and parameters that only a study can draw, on a command line without one."""
    fix = f"add -m with sweep={'|'.join(sweeps)} or with hydra/sweeper=optuna"
    found = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if long_form(argument) != argument:
            found.append(Mistake(key=name, problem=f"`{name}` is for a study", got=argument, fix=fix))
        elif is_spec(value) and "interval" in value:
            problem = f"`{name}`: an interval is for a study to draw from"
            found.append(Mistake(key=name, problem=problem, got=argument, fix=fix))
    return found


def read_sweep(
    composed: DictConfig,
    arguments: Sequence[str],
    kinds: Mapping[str, KeyType],
    options: Callable[[str], Sequence[str]],
) -> tuple[Sweep | None, list[Mistake]]:
    """The study that `arguments` ask for; `composed` is the config without what is swept.

    What the command line says of a parameter stands above what `hydra.sweeper.params` says; a plain value fixes it.
    """
    plain: Any = OmegaConf.to_container(composed.hydra.sweeper, resolve=True)
    plain.pop("_target_", None)
    settings, mistakes = validate(plain, SweepConfig)
    mistakes = [
        replace(m, key=f"{PREFIX}.{m.key}", problem=m.problem.replace("`", f"`{PREFIX}.", 1))
        for m in mistakes
    ]
    typed = {**_by_key(f"{name}={as_text(spec)}" for name, spec in (plain.get("params") or {}).items())}
    for key, argument in _by_key(arguments, mistakes).items():
        typed[key] = argument
    fixed: list[str] = []
    params: list[Param] = []
    for argument in typed.values():
        if argument.startswith("hydra"):
            continue
        parsed = read_spec(argument, kinds)
        if isinstance(parsed, Mistake):
            mistakes.append(parsed)
        elif not parsed.hydra.is_sweep_override():
            fixed.append(argument)
        else:
            param = to_param(parsed, kinds)
            if isinstance(param, Mistake):
                mistakes.append(param)
            else:
                params.append(param)
    space, more = ordered(params, _Fixed(composed), options)
    mistakes += more
    if settings is None:
        return None, mistakes
    mistakes += _study_mistakes(settings, space, has_params=bool(params) or bool(mistakes))
    name = composed.hydra.runtime.choices.get("sweep") or "study"
    return Sweep(str(name), settings, fixed, space), mistakes


def to_overrides(params: Mapping[str, Value], kinds: Mapping[str, KeyType]) -> list[str]:
    """A trial's parameters in Hydra's grammar."""
    texts = []
    for name, value in params.items():
        parsed = parse_override(f"{name}={as_text(value)}", kinds, multirun=False)
        texts.append(parsed.text if isinstance(parsed, ParsedOverride) else f"{name}={as_text(value)}")
    return texts


def plan(
    loader: ConfigLoader, composed: DictConfig, arguments: Sequence[str], schema: type[Config]
) -> tuple[Sweep, Callable[[Mapping[str, Value]], Config]]:
    """A checked command line's study, and what makes the config of a trial of its parameters.

    The latter raises ConfigError where these parameters do not go together.
    """
    kinds = key_types(schema)
    sweep, mistakes = read_sweep(composed, arguments, kinds, loader.get_group_options)
    if sweep is None or mistakes:
        raise gather(mistakes)

    def compose(params: Mapping[str, Value]) -> Config:
        overrides = [*sweep.fixed, *to_overrides(params, kinds)]
        try:
            return freeze(loader.load_sweep_config(composed, overrides), schema)
        except COMPOSE_ERRORS as error:
            raise gather([explain(error)]) from error

    return sweep, compose


class _Fixed(dict[str, str]):
    """Values of all keys and the chosen option of each group of a composed config."""

    def __init__(self, composed: DictConfig):
        plain, _ = to_plain_dict(composed)
        super().__init__({key: as_text(value) for key, value in to_flat_dict(plain).items()})
        self.update({str(k): as_text(v) for k, v in composed.hydra.runtime.choices.items() if v is not None})


def _by_key(arguments: Any, mistakes: list[Mistake] | None = None) -> dict[str, str]:
    """Arguments by what they set, later ones above earlier ones; two spaces for one key are a mistake."""
    found: dict[str, str] = {}
    for argument in arguments:
        key = argument.partition("=")[0].lstrip("+~")
        if mistakes is not None and key in found and is_spec(argument.partition("=")[2]):
            mistakes.append(
                Mistake(key=key, problem=f"`{key}` is given twice", got=f"{found[key]} and {argument}")
            )
        found[key] = argument
    return found


def _study_mistakes(settings: SweepConfig, space: Space, *, has_params: bool) -> Iterator[Mistake]:
    if not space and not has_params:
        fix = "name one: optim.lr=tag(log,interval(1e-4,1e-2)) or model/fusion=choice(concat,gated)"
        yield Mistake(key=PREFIX, problem="a study with nothing to vary", fix=fix)
    for param in space:
        if settings.sampler.kind == "grid" and not isinstance(param, Choice) and param.grid() is None:
            problem = f"`{param.name}`: a grid needs values that can be counted"
            yield Mistake(
                key=param.name,
                problem=problem,
                expected="choice(...) or range(low,high,step)",
                got=param.text,
            )
    by_name = {param.name: param for param in space}
    for number, start in enumerate(settings.warm_start):
        if "study" in start:
            continue
        for name, value in start.items():
            key = f"{PREFIX}.warm_start.{number}"
            if name not in by_name:
                near = did_you_mean(nearest(name, by_name))
                yield Mistake(key=key, problem=f"`{key}`: `{name}` is not swept", fix=near)
            elif not by_name[name].contains(value):
                problem = f"`{key}`: {name}={as_text(value)} is outside the search space"
                yield Mistake(key=key, problem=problem, expected=by_name[name].text)
