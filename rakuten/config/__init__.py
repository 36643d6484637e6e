"""The schema of conf/: types and ranges. Values live in the YAML files and nowhere else.

Every class is frozen and refuses unknown keys. Nothing here imports torch, Hydra or OmegaConf, so that the
command line can check itself in well under a second and a served bundle needs neither. What turns a command
line into these objects is `rakuten.cli`.
"""

from rakuten.config.data import Columns, DataConfig, DemoConfig, Files, Limits, SplitConfig
from rakuten.config.doctor import DoctorConfig
from rakuten.config.model import (
    AugmentConfig,
    FusionConfig,
    ModelConfig,
    NgramConfig,
    TimmConfig,
    TransformerConfig,
)
from rakuten.config.monitoring import DriftConfig, EffectConfig
from rakuten.config.pipeline import DagConfig, PipelineConfig
from rakuten.config.promotion import GateConfig, PromoteConfig
from rakuten.config.training import (
    EvaluateConfig,
    OptimConfig,
    PredictConfig,
    TrackingConfig,
    TrainConfig,
    TrainerConfig,
)
from rakuten.config.watch import WatchConfig

__all__ = [
    "AugmentConfig",
    "Columns",
    "DagConfig",
    "DataConfig",
    "DemoConfig",
    "DoctorConfig",
    "DriftConfig",
    "EffectConfig",
    "EvaluateConfig",
    "Files",
    "FusionConfig",
    "GateConfig",
    "Limits",
    "ModelConfig",
    "NgramConfig",
    "OptimConfig",
    "PipelineConfig",
    "PredictConfig",
    "PromoteConfig",
    "SplitConfig",
    "TimmConfig",
    "TrackingConfig",
    "TrainConfig",
    "TrainerConfig",
    "TransformerConfig",
    "WatchConfig",
]
