"""What each stage of the pipeline depends on, out of the whole config: a change elsewhere runs nothing again."""

from pathlib import Path
from typing import Any

import yaml

from rakuten.config import EvaluateConfig, PredictConfig, TrainConfig
from rakuten.config_io import to_plain
from rakuten.data.files import atomic_write
from rakuten.data.fit_encoder import encoder_settings
from rakuten.data.ingest_report import config_parts

PARAMS = Path("params.yaml")
_HEADER = "# Made of conf/ by the stage `compose` of dvc.yaml, for DVC to compare: not to be edited.\n"


def stage_params(
    train: TrainConfig, evaluate: EvaluateConfig, predict: PredictConfig
) -> dict[str, dict[str, Any]]:
    """Stage -> plain values that its result follows from, beside the files that it reads."""
    data, model = train.data, train.model
    limits = to_plain(data.limits)
    return {
        "ingest": config_parts(data),
        "features": {
            "split": {name: value for name, value in to_plain(data.split).items() if name != "val"},
            "limits": limits,
            "tokens": encoder_settings(model.text) if model.text is not None else None,
            "pixels": model.image and {"px": model.image.image_px, "trim_border": model.image.trim_border},
        },
        "train": {
            "seed": train.seed,
            "val": data.split.val,
            **{name: to_plain(getattr(train, name)) for name in ("model", "optim", "trainer", "bootstrap")},
        },
        "evaluate": {name: getattr(evaluate, name) for name in ("split", "bootstrap", "batch_size", "seed")},
        "predict": {"top_k": predict.top_k, "submission": predict.submission},
    }


def write_params(params: dict[str, dict[str, Any]], path: Path = PARAMS) -> None:
    """As YAML, whole or not at all."""
    with atomic_write(path) as temporary:
        text = yaml.safe_dump(to_plain(params), sort_keys=False, allow_unicode=True, width=110)
        temporary.write_text(_HEADER + text, encoding="utf-8")
