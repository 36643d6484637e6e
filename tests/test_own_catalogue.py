"""A stranger's catalogue: other codes, columns, files and photo names, by one YAML file and no code."""

import csv
import os
import random
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from rakuten.cli import compose
from rakuten.model.bundle import Predictor
from tests.scripts import run_forked

ROOT = Path(__file__).parents[1]
WORDS = {
    "SHOES": "botte sandale semelle lacet",
    "BAGS": "sac valise bandoulière",
    "0042": "chapeau béret bonnet",
}
MINE = """
defaults:
  - base
  - _self_

name: mine
root: {root}
encoding: cp1252

columns:
  index: id
  designation: title
  description: text
  productid: id
  imageid: photo
  label: category

files:
  x_train: [products.csv]
  y_train: [products.csv]
  x_test: [new.csv]
  images_train: photos
  images_test: photos
  image_name: "{{imageid}}.png"

codes:
  SHOES: Chaussures
  BAGS: Sacs
  "0042": Chapeaux
"""
TINY = [
    "data=mine", "trainer.max_epochs=8", "trainer.batch_size=16", "trainer.threads=1", "bootstrap=20",
    "tracking=off", "model.text.num_buckets=512", "model.text.embedding_dim=16", "model.text.max_tokens=64",
    "model.image.image_px=32", "data.split.near_duplicate=1.0",
]  # fmt: skip


def write_catalogue(root: Path) -> None:
    rng = random.Random(0)
    (root / "photos").mkdir(parents=True)
    rows = []
    for number in range(240):
        code = rng.choice(list(WORDS))
        title = " ".join([*rng.sample(WORDS[code].split(), 2), f"modèle {rng.randrange(10**6)}"])
        color = {"SHOES": (200, 40, 40), "BAGS": (40, 200, 40), "0042": (40, 40, 200)}[code]
        photo = f"p-{number}" if number % 3 else ""
        if photo:
            noise = np.random.default_rng(number).integers(-20, 20, (40, 40, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"photos/{photo}.png")
        rows.append([f"ref_{number}", title, "neuf" if number % 2 else "", photo, code])
    for name, chosen in (("products.csv", rows), ("new.csv", [row[:-1] for row in rows[:30]])):
        with (root / name).open("w", encoding="cp1252", newline="") as file:
            header = ["id", "title", "text", "photo", "category"]
            csv.writer(file).writerows([header[: len(chosen[0])], *chosen])


def run(script: str, arguments: list[str], folder: Path) -> str:
    arguments = ["--config-dir", "my conf", *arguments]
    result = run_forked(ROOT / f"scripts/{script}.py", arguments, folder, os.environ)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.slow
def test_it_trains_and_predicts_without_code(tmp_path: Path) -> None:
    write_catalogue(tmp_path / "my shop")
    (tmp_path / "my conf/data").mkdir(parents=True)
    (tmp_path / "my conf/data/mine.yaml").write_text(MINE.format(root="my shop"), encoding="utf-8")
    bundle = tmp_path / run("train", TINY, tmp_path)
    predictor = Predictor.load(bundle)
    assert predictor.labels.codes == ("SHOES", "BAGS", "0042")
    metrics = predictor.info["metrics"]["test"]
    assert metrics["both"]["accuracy"] > 0.8
    output = tmp_path / run("predict", ["data=mine", "output=answers.csv"], tmp_path)
    with output.open(encoding="utf-8", newline="") as file:
        answers = list(csv.DictReader(file))
    assert [row["index"] for row in answers] == [f"ref_{number}" for number in range(30)]
    assert {row["predicted_category"] for row in answers} <= set(WORDS)
    with (tmp_path / "my shop/products.csv").open(encoding="cp1252", newline="") as file:
        truth = [row["category"] for row in csv.DictReader(file)][:30]
    right = [row["predicted_category"] == code for row, code in zip(answers, truth, strict=True)]
    assert sum(right) >= 24


def test_the_template_composes_and_brings_its_own_codes_alone() -> None:
    data = compose("train", ["data=example"]).data
    written = yaml.safe_load((ROOT / "conf/data/example.yaml").read_text(encoding="utf-8"))
    assert data.codes == written["codes"]
    assert "0042" in data.codes
    assert data.columns.index == written["columns"]["index"]


@pytest.mark.parametrize("name", ["rakuten", "demo"])
def test_the_challenges_catalogues_share_their_codes(name: str) -> None:
    data = compose("train", [f"data={name}"]).data
    assert len(data.codes) == 27
    assert data.interim_dir == Path("data/interim") / name
