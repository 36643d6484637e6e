"""The schema of the promotion of a model: conf/promote.yaml."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from rakuten.config.data import DataConfig
from rakuten.config.training import TrackingConfig
from rakuten.config.types import Count, Fraction, Name, Positive, Seed, schema


@schema
class GateConfig:
    """What a challenger must show on the frozen test set. Scores and drops are shares: 0.01 is one point."""

    min_weighted_f1: Fraction
    max_ece: Fraction
    max_latency_ms: Positive  # median of one product at a time, on the machine that judges
    max_bundle_mb: Positive
    margin: Annotated[
        float, Field(ge=0, lt=1)
    ]  # weighted F1 that the challenger must have beyond the champion's
    alpha: Annotated[float, Field(gt=0, lt=0.5)]  # chance that one without that margin passes
    num_resamples: Annotated[int, Field(ge=100)]  # of the paired bootstrap
    max_class_drop: Fraction  # F1 that any class may lose against the champion
    min_test_products: Count


@schema
class PromoteConfig:
    """All of scripts/promote.py."""

    run: str | None  # null: the newest finished run
    rollback: bool
    data: DataConfig
    tracking: TrackingConfig
    gate: GateConfig
    registered_model: Name
    onnx: bool
    int8: bool
    batch_size: Count
    seed: Seed
    outputs_dir: Path
    debug: bool
