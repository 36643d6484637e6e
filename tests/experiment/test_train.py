"""What a run leaves behind, and what it says."""

import json
import re
from pathlib import Path

import pytest

from rakuten.errors import DataError, DeviceError
from rakuten.experiment.runs import create_run
from rakuten.experiment.train import train
from rakuten.model.bundle import Predictor
from tests.experiment.conftest import MakeTrain, Shop, Told

METRICS = {"weighted_f1", "macro_f1", "accuracy", "top3", "log_loss", "ece"}


def test_the_last_line_on_stdout_is_the_bundle_alone(shop: Shop) -> None:
    assert re.fullmatch(r"outputs/\d{8}-\d{6}-[0-9a-f]{6}/bundle\n", shop.result.stdout)
    assert len(Predictor.load(shop.bundle).labels) == 27


def test_a_run_writes_its_folder_and_nothing_else(shop: Shop) -> None:
    assert {path.name for path in shop.folder.iterdir()} == {"data", "outputs"}
    ours = {"mlflow.db", "mlartifacts", shop.run.name}
    assert {path.name for path in shop.run.parent.iterdir() if not path.name.startswith(".")} == ours
    assert {path.name for path in shop.run.iterdir()} == {"bundle", "evaluation", "checkpoints"}
    assert not [
        path for path in shop.folder.rglob("*") if path.suffix in (".log", ".partial", ".tmp", ".pkl")
    ]


def test_metrics_are_complete_and_those_of_the_bundle(shop: Shop) -> None:
    metrics = json.loads((shop.run / "evaluation/metrics.json").read_text())
    modalities = {"both", "text", "image"}
    assert {side: set(by) for side, by in metrics.items()} == {"val": modalities, "test": modalities}
    assert all(set(values) == METRICS for by in metrics.values() for values in by.values())
    assert Predictor.load(shop.bundle).info["metrics"] == metrics


def test_the_summary_says_where_things_are(shop: Shop) -> None:
    said = shop.result.stderr
    for text in ("text only", "photo only", "best possible", f"report   outputs/{shop.run.name}/evaluation"):
        assert text in said
    assert f"python scripts/predict.py bundle=outputs/{shop.run.name}/bundle" in said
    assert "mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db" in said
    assert not re.search(r"Traceback|Warning|INFO", said)


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    assert len({create_run(tmp_path, "key").path for _ in range(20)}) == 20


@pytest.mark.parametrize("model", ["text_small", "image_small"])
def test_one_tower_has_its_own_modality(train_config: MakeTrain, model: str) -> None:
    told = Told()
    bundle = train(train_config("trainer.max_epochs=1", model=model), told)
    metrics = json.loads((bundle.parent / "evaluation/metrics.json").read_text())
    modality = model.removesuffix("_small")
    assert set(metrics["test"]) == {"both", modality}
    assert metrics["test"]["both"] == metrics["test"][modality]


def test_a_gpu_that_is_not_there(train_config: MakeTrain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="torch sees no GPU"):
        train(train_config("trainer=gpu"), Told())


def test_a_catalogue_too_small_for_its_shares(train_config: MakeTrain, tmp_path: Path) -> None:
    config = train_config("data.split.val=0.0", f"data.processed_dir={tmp_path / 'processed'}")
    with pytest.raises(DataError, match="no product is left for val"):
        train(config, Told())
    assert not config.outputs_dir.exists()


def test_no_calibration_side_leaves_confidence_as_it_is(train_config: MakeTrain, tmp_path: Path) -> None:
    places = f"data.processed_dir={tmp_path / 'processed'}"
    bundle = train(train_config("data.split.calib=0.0", "trainer.max_epochs=1", places), Told())
    assert Predictor.load(bundle).temperature == 1.0
