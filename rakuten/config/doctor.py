"""The schema of scripts/doctor.py: conf/doctor.yaml."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from rakuten.config.data import DataConfig
from rakuten.config.model import ModelConfig
from rakuten.config.training import TrackingConfig, TrainerConfig
from rakuten.config.types import Name, NonNegative, schema


@schema
class DoctorConfig:
    """All of scripts/doctor.py."""

    data: DataConfig
    model: ModelConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    outputs_dir: Path
    sweep_storage: str | None  # of sweeps, where it is a PostgreSQL
    ports: list[Annotated[int, Field(ge=1, le=65_535)]]
    disk_free_gib: NonNegative  # less is a warning, less than a fifth of it an error
    deliver: bool
    lineage: str | None  # a bundle, a run, or a version of the model
    registered_model: Name
    json: bool
    debug: bool
