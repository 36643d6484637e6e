"""What the main job must show, run for real: `make acceptance`, with CATALOGUE=PATH for what needs real products."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3600)]
CATALOGUE = os.environ.get("CATALOGUE")


def script(folder: Path, name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / name), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("generator_seed", [0, 1, 2, 3])
def test_fused_reaches_the_bayes_limit_on_demo(tmp_path: Path, generator_seed: int) -> None:
    output = script(tmp_path, "scripts/train.py", f"data.demo.seed={generator_seed}", "tracking=off")
    run = Path(tmp_path / output.strip().splitlines()[-1]).parent
    report = json.loads((run / "evaluation/test/report.json").read_text(encoding="utf-8"))
    accuracy = {name: part["scores"]["accuracy"]["value"] for name, part in report["modalities"].items()}
    limit = report["modalities"]["both"]["best_possible_accuracy"]
    assert report["modalities"]["both"]["num_rows"] >= 1000
    assert accuracy["both"] >= 0.95 * limit
    assert accuracy["both"] >= max(accuracy["text"], accuracy["image"]) + 0.10


@pytest.mark.skipif(CATALOGUE is None, reason="needs real products: make acceptance CATALOGUE=PATH")
def test_small_cpu_beats_tfidf_on_real_products(tmp_path: Path) -> None:
    output = script(
        tmp_path,
        "benchmarks/against_tfidf.py",
        "data=rakuten",
        f"data.root={Path(CATALOGUE or '').resolve()}",
        "tracking=off",
    )
    print(output)
    row = next(line for line in output.splitlines() if "same rows" in line)
    difference, low = (float(number) for number in re.findall(r"[+-]\d\.\d+", row)[:2])
    assert difference >= 0.02
    assert low > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_fusion_trains_on_a_gpu(tmp_path: Path) -> None:
    arguments = ("model=fusion", "model.text.pretrained=false", "model.image.pretrained=false", "trainer=gpu")
    output = script(tmp_path, "scripts/train.py", *arguments, "trainer.max_epochs=1", "tracking=off")
    assert (tmp_path / output.strip().splitlines()[-1] / "bundle.json").is_file()
