"""python scripts/promote.py && bentoml serve, as a person types it: train, promote, serve, promote another, go back."""

import os
import subprocess
from pathlib import Path

import pytest

from rakuten.model.bundle_files import read_info
from rakuten.model.onnx_files import graphs_of, read_export
from rakuten.serve.publish import published
from tests.conftest import ROOT
from tests.experiment.conftest import DEMO, FUSION, LOOP
from tests.scripts import run_forked
from tests.serve.conftest import StartIn

LENIENT = [
    "min_weighted_f1=0",
    "max_ece=1",
    "min_test_products=20",
    "max_class_drop=1",
    "max_latency_ms=10000",
]
OTHER = ["trainer.max_epochs=12", "trainer.patience=12", "seed=1"]


def script(name: str, *arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    return run_forked(ROOT / f"scripts/{name}.py", arguments, folder, environment)


def promote(*arguments: str, folder: Path) -> str:
    """Its standard output."""
    gate = [f"gate.{each}" for each in LENIENT]
    done = script("promote", *gate, *DEMO, *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_train_promote_serve_promote_again_and_go_back(house: Path, start_in: StartIn) -> None:
    for more in ([], OTHER):
        done = script("train", "trainer=cpu", *DEMO, *FUSION, *LOOP, *more, folder=house)
        assert done.returncode == 0, done.stderr
    first, second = sorted(path.parent.name for path in (house / "outputs").glob("*/bundle"))
    assert promote(f"run={first}", folder=house).strip() == "outputs/champion.json"
    said = published(house / "outputs")
    stored = Path(said.bundle)
    assert stored.is_relative_to(house / "bentoml/models/rakuten/1")
    assert said.version == "1"

    service = start_in(house, poll_s=0.2).wait_until_ready()
    with service.client() as client:
        facts = client.get("/model").json()
        report = read_export(graphs_of(stored), read_info(stored))
        assert report is not None, "with its graphs"
        assert facts["runtime"] == report.chosen
        assert facts["model_version"] == "1"

        promote(f"run={second}", "int8=true", folder=house)
        service.wait(lambda: client.get("/health").json()["model_version"] == "2")
        tried = read_export(
            house / "outputs" / second / "onnx", read_info(Path(published(house / "outputs").bundle))
        )
        assert tried is not None
        assert tried.quantized
        assert tried.measured["onnx"].parity.num_products >= 20
        assert tried.measured["onnx"].parity.f1_drop is not None, "what they cost is told in F1"
        promote("rollback=true", folder=house)
        service.wait(lambda: client.get("/health").json()["model_version"] == "1")
        assert published(house / "outputs").bundle == str(stored)
    assert service.terminate() == 0
