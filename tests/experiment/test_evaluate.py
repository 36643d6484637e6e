"""Scores of a bundle on any side of a catalogue."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rakuten.config import EvaluateConfig
from rakuten.data.features import Features
from rakuten.data.split import CALIB
from rakuten.errors import DataError, RakutenError
from rakuten.experiment.evaluate import calibrate, predict_by_modality, predict_rows
from rakuten.experiment.metrics import score
from rakuten.experiment.scoring import evaluate_bundle
from rakuten.experiment.sides import split_rows
from rakuten.model.bundle import Predictor
from tests.conftest import ROOT
from tests.experiment.conftest import DEMO, Shop, Told, run_script

MakeEvaluate = Callable[..., EvaluateConfig]


def read_scores(folder: Path) -> dict[str, dict[str, float]]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("split", ["train", "val", "calib", "test"])
def test_every_side_has_its_report(evaluate_config: MakeEvaluate, split: str) -> None:
    told = Told()
    page = evaluate_bundle(evaluate_config(f"split={split}"), told)
    assert page.is_file()
    assert {"report.json", "predictions.csv", "confusion_matrix.png"} <= {
        p.name for p in page.parent.iterdir()
    }
    assert "another split" not in told.text


@pytest.mark.parametrize("split", ["val", "test"])
def test_it_gives_the_runs_own_scores(shop: Shop, evaluate_config: MakeEvaluate, split: str) -> None:
    page = evaluate_bundle(evaluate_config(f"split={split}"), Told())
    ours = (page.parent / "predictions.csv").read_bytes()
    assert ours == (shop.run / "evaluation" / split / "predictions.csv").read_bytes()


@pytest.mark.slow
def test_the_script_from_the_shops_folder(shop: Shop) -> None:
    """No bundle named: the newest one; the report lies beside it."""
    result = run_script("evaluate", [*DEMO, "split=calib", "bootstrap=10"], shop.folder)
    assert result.returncode == 0, result.stderr
    page = shop.folder / result.stdout.strip()
    assert page == shop.run / "evaluation/calib/report.html"
    assert page.is_file()


def test_another_split_is_warned_of(evaluate_config: MakeEvaluate, tmp_path: Path) -> None:
    told = Told()
    evaluate_bundle(evaluate_config("data.split.salt=7", f"data.processed_dir={tmp_path / 'other'}"), told)
    assert "trained on another split" in told.text


def test_other_codes_are_refused(evaluate_config: MakeEvaluate) -> None:
    with pytest.raises(DataError, match="answers with other codes"):
        evaluate_bundle(evaluate_config("data.codes.99=Nouveau"), Told())


def test_an_empty_side_is_refused(evaluate_config: MakeEvaluate, tmp_path: Path) -> None:
    config = evaluate_config(
        "data.split.calib=0.0", "split=calib", f"data.processed_dir={tmp_path / 'processed'}"
    )
    with pytest.raises(DataError, match="no product is on the side 'calib'"):
        evaluate_bundle(config, Told())


def test_no_bundle_yet(evaluate_config: MakeEvaluate, tmp_path: Path) -> None:
    config = evaluate_config("bundle=null", f"outputs_dir={tmp_path}")
    with pytest.raises(RakutenError, match="no bundle below"):
        evaluate_bundle(config, Told())


def test_modalities_are_judged_on_the_products_that_have_them(shop: Shop, features: Features) -> None:
    predictor = Predictor.load(shop.bundle)
    rows = np.arange(len(features.table))
    by = predict_by_modality(predictor, features, rows)
    assert features.store.tokens is not None
    assert features.store.photos is not None
    assert len(by["both"].labels) == len(rows)
    assert len(by["text"].labels) == (features.store.tokens.lengths > 0).sum()
    assert len(by["image"].labels) == features.store.photos.present.sum() < len(rows)
    # Hidden is as good as absent: a product without a photo is answered the same.
    blind = rows[~features.store.photos.present]
    hidden = predict_rows(predictor, features, blind, hide="image")
    np.testing.assert_allclose(hidden.probs, predict_rows(predictor, features, blind).probs, atol=1e-6)


def test_batches_change_nothing_and_order_is_kept(shop: Shop, features: Features) -> None:
    predictor = Predictor.load(shop.bundle)
    rows = np.random.default_rng(0).permutation(len(features.table))[:80]
    large = predict_rows(predictor, features, rows)
    small = predict_rows(predictor, features, rows, batch_size=3)
    np.testing.assert_allclose(small.probs, large.probs, atol=1e-6)
    assert (large.labels == features.labels[rows]).all()
    assert list(large.rows) == features.table["index"].to_numpy()[rows].tolist()


def test_the_bundles_temperature_is_that_of_its_calibration_side(shop: Shop, features: Features) -> None:
    predictor = Predictor.load(shop.bundle)
    rows = features.rows(CALIB)
    assert predictor.info["calibration"]["num_products"] == len(rows) > 0
    calibration = calibrate(predictor, features, rows)
    assert calibration["temperature"] == pytest.approx(predictor.temperature, rel=1e-3)
    alone = calibration["temperature_without_text"]
    assert alone == pytest.approx(predictor.temperature_without_text, rel=1e-3)
    assert alone != pytest.approx(predictor.temperature, rel=1e-3)
    after = score(predict_rows(predictor, features, rows))["log_loss"]
    predictor.temperature = predictor.temperature_without_text = 1.0
    before = score(predict_rows(predictor, features, rows))["log_loss"]
    assert after is not None
    assert before is not None
    assert after <= before + 1e-9


def test_sides_do_not_overlap_and_val_follows_the_seed(
    features: Features, evaluate_config: MakeEvaluate
) -> None:
    split = evaluate_config().data.split
    first, same, other = (split_rows(features, split, seed) for seed in (0, 0, 1))
    parts = [first.train, first.val, first.calib, first.test]
    joined = np.concatenate(parts)
    assert len(set(joined.tolist())) == len(joined)
    assert (first.val == same.val).all()
    assert set(first.val.tolist()) != set(other.val.tolist())
    assert (first.test == other.test).all()


@pytest.mark.slow
def test_who_only_asks_a_model_loads_nothing_that_trains() -> None:
    asked = (
        "import sys, rakuten.experiment.scoring, rakuten.experiment.promotion, rakuten.experiment.predict;"
    )
    told = "print(sorted({'pytorch_lightning', 'torchmetrics', 'optuna'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", asked + told], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
