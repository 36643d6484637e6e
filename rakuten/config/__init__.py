"""The schema of conf/: types and ranges. Values live in the YAML files and nowhere else.

Every class is frozen and refuses unknown keys. Nothing here imports torch, Hydra or OmegaConf, so that the
command line can check itself in well under a second and a served bundle needs neither. What turns a command
line into these objects is `rakuten.cli`.
"""

from rakuten.config.data import Columns, DataConfig, DemoConfig, Files, Limits, SplitConfig
from rakuten.config.model import (
    AugmentConfig,
    FusionConfig,
    ModelConfig,
    NgramConfig,
    TimmConfig,
    TransformerConfig,
)
from rakuten.config.training import (
    EvaluateConfig,
    OptimConfig,
    PredictConfig,
    TrackingConfig,
    TrainConfig,
    TrainerConfig,
)

__all__ = [
    "AugmentConfig",
    "Columns",
    "DataConfig",
    "DemoConfig",
    "EvaluateConfig",
    "Files",
    "FusionConfig",
    "Limits",
    "ModelConfig",
    "NgramConfig",
    "OptimConfig",
    "PredictConfig",
    "SplitConfig",
    "TimmConfig",
    "TrackingConfig",
    "TrainConfig",
    "TrainerConfig",
    "TransformerConfig",
]
