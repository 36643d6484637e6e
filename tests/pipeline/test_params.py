"""Which stages a change of conf/ makes stale: those that depend on it, and no other."""

from pathlib import Path

import pytest
import yaml

from rakuten.cli import compose
from rakuten.config import EvaluateConfig, PredictConfig
from rakuten.pipeline.params import stage_params, write_params


def stages_with(*overrides: str, evaluate: str | None = None, predict: str | None = None) -> set[str]:
    """Stages whose parameters differ from the shipped ones."""
    shipped = stage_params(
        compose("train"),
        compose("evaluate", schema=EvaluateConfig),
        compose("predict", schema=PredictConfig),
    )
    changed = stage_params(
        compose("train", overrides),
        compose("evaluate", [evaluate] if evaluate else [], EvaluateConfig),
        compose("predict", [predict] if predict else [], PredictConfig),
    )
    return {stage for stage in shipped if shipped[stage] != changed[stage]}


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("optim.warmup=0.11", {"train"}),
        ("model.fusion.dropout=0.11", {"train"}),
        ("trainer.max_epochs=3", {"train"}),
        ("seed=1", {"train"}),
        ("data.split.val=0.09", {"train"}),
        ("data.split.salt=1", {"features"}),
        ("data.limits.image_bytes=19000000", {"ingest", "features"}),
        ("data.demo.num_products=900", {"ingest"}),
        ("model.text.num_buckets=600", {"features", "train"}),
        ("model.image.image_px=64", {"features", "train"}),
        ("model.text.lr=0.1", {"train"}),
        ("tracking.experiment=other", set()),
        ("data.root=elsewhere", set()),
        ("outputs_dir=elsewhere", set()),
    ],
)
def test_a_change_makes_stale_what_depends_on_it(override: str, stages: set[str]) -> None:
    assert stages_with(override) == stages


def test_so_do_the_settings_of_the_last_stages() -> None:
    assert stages_with(evaluate="bootstrap=20") == {"evaluate"}
    assert stages_with(predict="top_k=2") == {"predict"}


def test_the_file_reads_back(tmp_path: Path) -> None:
    params = stage_params(
        compose("train", ["model=text_small"]),
        compose("evaluate", schema=EvaluateConfig),
        compose("predict", schema=PredictConfig),
    )
    write_params(params, tmp_path / "params.yaml")
    assert yaml.safe_load((tmp_path / "params.yaml").read_text(encoding="utf-8")) == params
