"""The schema of training and tracking, and of each script as a whole: conf/*.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rakuten.config.data import DataConfig
from rakuten.config.model import ModelConfig
from rakuten.config.types import (
    Count,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    Probability,
    Seed,
    schema,
)


@schema
class OptimConfig:
    """AdamW with warm-up and cosine decay."""

    lr: Positive  # of fusion and heads; each tower brings its own
    weight_decay: NonNegative  # of fusion and heads
    betas: Annotated[list[Probability], Field(min_length=2, max_length=2)]
    warmup: Fraction  # share of all steps
    grad_clip: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # largest gradient norm; 0 for none
    loss: Literal["cross_entropy", "squared_hinge"]
    label_smoothing: Probability  # of cross-entropy
    class_weight: Literal["none", "balanced", "sqrt"]
    ema: Probability  # decay of the averaged weights that are evaluated and kept; 0 for none


@schema
class TrainerConfig:
    """What Lightning's Trainer gets, and how batches are cut."""

    accelerator: Literal["cpu", "gpu"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    max_epochs: Count
    min_epochs: NonNegativeInt  # before, training does not stop and no epoch counts as the best
    patience: Count  # validations without a better weighted F1 before training stops
    batch_size: Count  # products at most
    token_budget: Count  # padded tokens of a batch at most
    num_workers: NonNegativeInt
    channels_last: bool
    compile: bool
    fused: bool
    deterministic: bool
    limit_batches: NonNegativeInt  # batches an epoch at most; 0 for all
    threads: NonNegativeInt  # CPU threads; 0 for torch's own choice


@schema
class TrackingConfig:
    """Where runs are recorded."""

    kind: Literal["mlflow", "off"]
    uri: str
    artifact_root: str | None
    experiment: str


@schema
class TrainConfig:
    """All of scripts/train.py, ingest.py and features.py."""

    data: DataConfig
    model: ModelConfig
    optim: OptimConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    seed: Seed
    resume: bool
    outputs_dir: Path
    publish: Path | None  # a folder that gets a copy of the bundle
    metrics: Path | None  # a file that gets the scores
    bootstrap: NonNegativeInt  # resamples behind each interval of the report; 0 for none
    tags: dict[str, str]
    debug: bool  # show tracebacks


@schema
class EvaluateConfig:
    """All of scripts/evaluate.py."""

    bundle: Path | None  # null: the newest run's
    data: DataConfig
    split: Literal["train", "val", "calib", "test"]
    output: Path | None  # null: evaluation/<split> beside the bundle
    bootstrap: NonNegativeInt
    batch_size: Count
    seed: Seed
    attach: list[Path]  # files that the bundle's own run gets as artifacts
    tracking: TrackingConfig
    outputs_dir: Path
    debug: bool


@schema
class PredictConfig:
    """All of scripts/predict.py."""

    bundle: Path | None  # null: the newest run's
    data: DataConfig
    input: Path | None  # null: the catalogue's X_test
    images: Path | None  # null: the catalogue's test image folder, where it is there
    output: Path | None  # null: <processed_dir>/predictions.csv
    top_k: Count
    batch_size: Count
    num_workers: NonNegativeInt
    submission: bool
    outputs_dir: Path
    debug: bool
