"""The schema of the pipeline: conf/pipeline.yaml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rakuten.config.types import Name, NonNegativeInt, schema

StageName = Literal["compose", "generate", "ingest", "features", "train", "evaluate", "predict"]


@schema
class DagConfig:
    """What the stages of dvc.yaml are told: options of config groups, and where the raw data lie."""

    data: Name
    root: Path
    generated: list[Name]  # the catalogue, where a stage makes its raw data
    model: str
    trainer: str
    tracking: str
    experiment: str


@schema
class PipelineConfig:
    """All of scripts/pipeline.py."""

    dag: DagConfig
    stages: list[StageName]  # empty: all
    force: bool
    push: bool
    retries: NonNegativeInt
    retry_delay_s: NonNegativeInt
    schedule: Annotated[str, Field(pattern=r"^\s*(\S+\s+){4}\S+\s*$")] | None  # cron
    debug: bool
