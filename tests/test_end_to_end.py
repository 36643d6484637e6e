"""Verb by verb from an empty folder, as a person would type them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEMO = ["data.demo.num_products=300", "data.demo.num_unlabelled=40", "data.demo.image_px=32"]
TINY = [
    "model.text.num_buckets=512", "model.text.embedding_dim=16", "model.text.max_tokens=64",
    "model.image.image_px=32", "trainer.max_epochs=1", "trainer.threads=1", "bootstrap=10", "tracking=off",
]  # fmt: skip


def run(verb: str, arguments: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    result = subprocess.run(
        [sys.executable, str(ROOT / f"scripts/{verb}.py"), *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.slow
@pytest.mark.acceptance  # tests/pipeline runs the same verbs, by DVC
def test_ingest_features_train_evaluate_predict(tmp_path: Path) -> None:
    ingested = run("ingest", DEMO, tmp_path)
    assert ingested.stdout == "data/interim/demo/merged_train.csv\n"
    counts = json.loads((tmp_path / "data/interim/demo/ingest.json").read_text())
    assert counts["rows_in"] == counts["rows_out"] + counts["rows_quarantined"] == 300

    features = run("features", [*DEMO, *TINY], tmp_path)
    assert features.stdout == "data/processed/demo/train_features.csv\n"
    assert "ingest:" not in features.stderr

    trained = run("train", [*DEMO, *TINY], tmp_path)
    assert "features:" not in trained.stderr
    bundle = tmp_path / trained.stdout.strip()

    page = run("evaluate", [*DEMO, "split=val", "bootstrap=10"], tmp_path)
    assert tmp_path / page.stdout.strip() == bundle.parent / "evaluation/val/report.html"

    predicted = run("predict", DEMO, tmp_path)
    assert predicted.stdout == "data/processed/demo/predictions.csv\n"
    with (tmp_path / predicted.stdout.strip()).open(encoding="utf-8", newline="") as file:
        answers = list(csv.DictReader(file))
    assert len(answers) == 40
    assert "40 predictions" in predicted.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"data", "outputs"}
