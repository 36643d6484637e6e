"""Optuna's samplers and pruners, such that what a trial is proposed depends on the study's past and its number alone."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
import xxhash
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from rakuten.config.space import Choice, Interval, Param, Space, Value, is_active
from rakuten.config.sweep import (
    CmaEsConfig,
    GpConfig,
    GridConfig,
    HalvingConfig,
    HyperbandConfig,
    MedianConfig,
    NsgaIIConfig,
    PrunerConfig,
    SamplerConfig,
    SweepConfig,
    TpeConfig,
)


class ReplayableSampler(BaseSampler):
    """Any sampler, begun anew for each trial with a seed of the trial's number and, apart from joint draws, the name.

    A study that was killed and goes on then proposes what it would have proposed undisturbed, also where the kill fell
    between two parameters of one trial. Trials with a start given (`starts`, by number) take their values from there.
    """

    def __init__(
        self, make: Callable[[int], BaseSampler], seed: int, starts: Sequence[Mapping[str, Value]] = ()
    ):
        self._make, self._seed, self._starts = make, seed, starts
        self._joint: BaseSampler | None = None  # some keep what they inferred until they draw

    def _fresh(self, trial: FrozenTrial, name: str = "") -> BaseSampler:
        key = f"{self._seed}/{trial.number}/{name}".encode()
        return self._make(xxhash.xxh3_64_intdigest(key) % 2**31)

    def _start(self, trial: FrozenTrial) -> Mapping[str, Value]:
        return self._starts[trial.number] if trial.number < len(self._starts) else {}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        if self._start(trial):
            return {}
        self._joint = self._fresh(trial)
        return self._joint.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._joint.sample_relative(study, trial, search_space) if self._joint else {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        start = self._start(trial)
        if param_name in start:
            return start[param_name]
        return self._fresh(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._fresh(trial).after_trial(study, trial, state, values)


class GridSampler(BaseSampler):
    """Trial n takes the n-th combination of a shuffled grid that knows of conditions, unlike Optuna's own."""

    def __init__(self, space: Space, seed: int):
        self._cells = grid(space)
        random.Random(seed).shuffle(self._cells)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._cells[trial.number % len(self._cells)][param_name]


def grid(space: Space) -> list[dict[str, Value]]:
    """Every different trial that a space of countable values has."""
    cells: list[dict[str, Value]] = [{}]
    for param in space:
        values = param.values if isinstance(param, Choice) else param.grid()
        assert values is not None, "checked with the command line"
        cells = [
            longer
            for cell in cells
            for longer in ([{**cell, param.name: v} for v in values] if is_active(param, cell) else [cell])
        ]
    return cells


def num_trials(settings: SweepConfig, space: Space) -> int:
    """How many finished trials a study ends with: a grid has no more than its cells."""
    if not isinstance(settings.sampler, GridConfig):
        assert settings.n_trials is not None, "checked with the settings"
        return settings.n_trials
    size = len(grid(space))
    return min(size, settings.n_trials or size)


def build_sampler(config: SamplerConfig, space: Space, starts: Sequence[Mapping[str, Value]]) -> BaseSampler:
    """The sampler of a study; `starts` are the values of its first trials."""
    if isinstance(config, GridConfig):
        return GridSampler(space, config.seed)

    def make(seed: int) -> BaseSampler:
        match config:
            case TpeConfig():
                return optuna.samplers.TPESampler(
                    n_startup_trials=config.n_startup_trials,
                    multivariate=config.multivariate,
                    group=config.multivariate,  # conditional parameters, which plain multivariate TPE draws at random
                    constant_liar=config.constant_liar,
                    seed=seed,
                )
            case GpConfig():
                return optuna.samplers.GPSampler(
                    n_startup_trials=config.n_startup_trials, deterministic_objective=False, seed=seed
                )
            case CmaEsConfig():
                return optuna.samplers.CmaEsSampler(n_startup_trials=config.n_startup_trials, seed=seed)
            case NsgaIIConfig():
                return optuna.samplers.NSGAIISampler(population_size=config.population_size, seed=seed)
            case _:
                return optuna.samplers.RandomSampler(seed=seed)

    return ReplayableSampler(make, config.seed, starts)


def build_pruner(config: PrunerConfig, max_epochs: int) -> BasePruner:
    """The pruner of a study whose trials train for at most `max_epochs`."""
    match config:
        case MedianConfig():
            return MedianPruner(
                config.n_startup_trials, config.n_warmup_steps, n_min_trials=config.n_min_trials
            )
        case HyperbandConfig():
            return HyperbandPruner(config.min_resource, max_epochs, config.reduction_factor)
        case HalvingConfig():
            return SuccessiveHalvingPruner(config.min_resource, config.reduction_factor)
        case _:
            return NopPruner()


def distribution(param: Param) -> BaseDistribution:
    """A parameter as Optuna knows it."""
    if isinstance(param, Choice):
        return CategoricalDistribution(param.values)
    if param.is_int:
        step = 1 if param.step is None else int(param.step)
        return IntDistribution(int(param.low), int(param.high), log=param.log, step=step)
    return FloatDistribution(param.low, param.high, log=param.log, step=param.step)


def draw(trial: optuna.Trial, space: Space) -> dict[str, Value]:
    """The trial's parameters, those that it has drawn already unchanged."""
    params: dict[str, Value] = {}
    for param in space:
        if is_active(param, params):
            params[param.name] = _suggest(trial, param)
    return params


def _suggest(trial: optuna.Trial, param: Param) -> Value:
    if isinstance(param, Interval):
        if param.is_int:
            step = 1 if param.step is None else int(param.step)
            return trial.suggest_int(param.name, int(param.low), int(param.high), log=param.log, step=step)
        return trial.suggest_float(param.name, param.low, param.high, log=param.log, step=param.step)
    value: Value = trial.suggest_categorical(param.name, param.values)
    return value
