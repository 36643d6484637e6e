"""The schema of scripts/drift.py: conf/drift.yaml."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rakuten.config.data import DataConfig
from rakuten.config.monitoring import DriftConfig
from rakuten.config.training import TrackingConfig
from rakuten.config.types import Count, Name, schema


@schema
class WatchConfig:
    """All of scripts/drift.py."""

    log: Annotated[str, Field(min_length=1)]  # URL of the inference log's database
    champion: str  # the pointer that is served from, or an MLflow server's address
    registered_model: Name
    bundle: Path | None  # another one than the champion's
    version: str | None  # that its answers carry
    window_products: Count
    since: datetime | None  # without a time zone: UTC
    until: datetime | None
    drift: DriftConfig
    report_dir: Path
    evidently_dir: Path | None
    reference_texts: Path | None
    json: bool
    flow: bool
    schedule: Annotated[str, Field(pattern=r"^\s*(\S+\s+){4}\S+\s*$")] | None  # cron
    tracking: TrackingConfig
    retrain: bool
    add_feedback: bool
    min_labels: Count
    data: DataConfig
    outputs_dir: Path
    debug: bool
