"""The schema of a sweep: conf/hydra/sweeper/ and conf/sweep/."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rakuten.config.types import Count, NonNegativeInt, Seed, schema

ObjectiveName = Literal["weighted_f1", "macro_f1", "accuracy", "latency_ms", "train_s", "bundle_mb"]
Direction = Literal["maximize", "minimize"]


@schema
class TpeConfig:
    """Tree-structured Parzen estimator (Bergstra et al., 2011)."""

    kind: Literal["tpe"]
    seed: Seed
    n_startup_trials: Count  # at random, before the model of what is good takes over
    multivariate: bool  # one model of all parameters together instead of one each
    constant_liar: bool  # running trials count as bad ones, so that workers do not try the same at once


@schema
class GpConfig:
    """Gaussian process with expected improvement: few, dear trials."""

    kind: Literal["gp"]
    seed: Seed
    n_startup_trials: Count


@schema
class CmaEsConfig:
    """CMA-ES (Hansen, 2016), for numbers; what it cannot vary is drawn at random."""

    kind: Literal["cmaes"]
    seed: Seed
    n_startup_trials: Count


@schema
class RandomConfig:
    """Independent draws."""

    kind: Literal["random"]
    seed: Seed


@schema
class GridConfig:
    """Every combination once, in an order that the seed shuffles."""

    kind: Literal["grid"]
    seed: Seed


@schema
class NsgaIIConfig:
    """NSGA-II (Deb et al., 2002), for several objectives."""

    kind: Literal["nsgaii"]
    seed: Seed
    population_size: Annotated[int, Field(ge=2)]


@schema
class NoPrunerConfig:
    """Every trial trains to its end."""

    kind: Literal["none"]


@schema
class MedianConfig:
    """Ends a trial whose best score so far is below the median of earlier trials at the same epoch."""

    kind: Literal["median"]
    n_startup_trials: NonNegativeInt  # trials that train to their end before any is pruned
    n_warmup_steps: NonNegativeInt  # epochs of each trial that are let pass
    n_min_trials: Count  # trials that must have reached an epoch before one is judged there


@schema
class HyperbandConfig:
    """Hyperband (Li et al., 2018): several brackets of successive halving."""

    kind: Literal["hyperband"]
    min_resource: Count  # epochs before a trial is judged first
    reduction_factor: Annotated[int, Field(ge=2)]  # one in so many goes on


@schema
class HalvingConfig:
    """Asynchronous successive halving (Li et al., 2020)."""

    kind: Literal["halving"]
    min_resource: Count
    reduction_factor: Annotated[int, Field(ge=2)]


SamplerConfig = Annotated[
    TpeConfig | GpConfig | CmaEsConfig | RandomConfig | GridConfig | NsgaIIConfig,
    Field(discriminator="kind"),
]
PrunerConfig = Annotated[
    NoPrunerConfig | MedianConfig | HyperbandConfig | HalvingConfig, Field(discriminator="kind")
]


@schema
class SweepConfig:
    """All of hydra.sweeper."""

    n_trials: Count | None  # finished trials the study ends with; null with the grid sampler alone: all of it
    n_jobs: NonNegativeInt  # trials at once on this machine; 0: one a GPU, or one a CPU core
    storage: str  # sqlite:///FILE, or postgresql+psycopg://... for many machines
    study_name: (
        Annotated[str, Field(pattern=r"^[^/\\\s.][^/\\\x00]{0,119}$")] | None
    )  # null: named after the sweep and the catalogue, and marked by all that it varies
    objective: list[ObjectiveName]  # of the best checkpoint, on the validation side
    direction: list[Direction]  # one an objective
    sampler: SamplerConfig
    pruner: PrunerConfig
    params: dict[str, Any]  # name -> choice(...), range(...), interval(...), tag(log, ...)
    warm_start: list[
        dict[str, Any]
    ]  # first trials: {study: NAME} for another study's best, or values by name
    lease_s: Annotated[float, Field(ge=2)]  # a worker that gave no sign for so long has lost its trial

    @field_validator("objective", "direction", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("storage")
    @classmethod
    def _is_a_database_of_a_kind_that_can_lock(cls, value: str) -> str:
        is_file = value.startswith("sqlite:///") and value != "sqlite:///" and ":memory:" not in value
        if not is_file and not value.startswith("postgresql"):
            raise ValueError("must be sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE")
        return value.replace("postgresql://", "postgresql+psycopg://", 1)

    @model_validator(mode="after")
    def _objectives_agree(self) -> "SweepConfig":
        if not self.objective or len(self.direction) != len(self.objective):
            raise ValueError(
                f"objective and direction must be as many: {len(self.objective)} and {len(self.direction)}"
            )
        if len(set(self.objective)) != len(self.objective):
            raise ValueError("objective names one thing twice")
        if len(self.objective) > 1 and self.pruner.kind != "none":
            raise ValueError("a pruner judges by one objective: with several, hydra/sweeper/pruner=none")
        if self.n_trials is None and self.sampler.kind != "grid":
            raise ValueError("n_trials may be null with the grid sampler alone")
        return self
