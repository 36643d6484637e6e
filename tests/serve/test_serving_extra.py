"""The serving extra alone: what it installs, what a service of it imports, and that it answers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.serve.conftest import StartIn
from tests.serve.process import environment, house

pytestmark = [pytest.mark.slow, pytest.mark.network]
UV = Path(sys.executable).parent / "uv"
TRAINING = {
    "pytorch_lightning": "pytorch-lightning",
    "hydra": "hydra-core",
    "omegaconf": "omegaconf",
    "optuna": "optuna",
    "mlflow": "mlflow",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
    "scipy": "scipy",
    "matplotlib": "matplotlib",
    "onnx": "onnx",
    "evidently": "evidently",
}
# One worker's parts, as the service puts them together.
ASK = """
import asyncio, json, sys
import rakuten.serve.service as service
from rakuten.data.preprocess import Product
from rakuten.serve.assembly import Assembly

async def main():
    worker = Assembly(service.SETTINGS, service.LIFECYCLE)
    await worker.start()
    answer = await worker.engine.predict(Product("Piscine ronde"), explain=True)
    await worker.aclose()
    return answer.predicted_prdtypecode, answer.model_version

answer = asyncio.run(main())
print(json.dumps({"answer": answer, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with the lock of the serving extra and the project's wheel."""
    folder = tmp_path_factory.mktemp("extra")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    [wheel] = folder.glob("*.whl")
    program = folder / "venv/bin/python"
    for command in (
        [str(UV), "venv", "--quiet", "--python", sys.executable, str(folder / "venv")],
        [
            *(str(UV), "pip", "install", "--quiet", "--python", str(program)),
            *("--require-hashes", "-r", str(ROOT / "deploy/serve.lock")),
        ],
        # All that the extra asks for is there: nothing is fetched.
        [
            *(str(UV), "pip", "install", "--quiet", "--python", str(program)),
            *("--offline", "--no-index", f"{wheel}[serve]"),
        ],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return program


def test_it_installs_nothing_that_trains(python: Path) -> None:
    listed = subprocess.run(
        [str(UV), "pip", "list", "--python", str(python), "--format", "json"],
        capture_output=True,
        check=True,
    )
    installed = {each["name"] for each in json.loads(listed.stdout)}
    assert {"bentoml", "torch", "onnxruntime", "rakuten"} <= installed
    assert not installed & set(TRAINING.values())


def test_a_worker_imports_nothing_that_trains(python: Path, bundle: Path, tmp_path: Path) -> None:
    folder = house(tmp_path / "house", bundle)
    done = subprocess.run(
        [str(python), "-c", ASK], cwd=folder, env=environment(folder, {}), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["answer"][1] == "1"
    assert "torch" in said["modules"]
    assert not set(said["modules"]) & {*TRAINING, "lightning"}


def test_it_serves(python: Path, bundle: Path, tmp_path: Path, start_in: StartIn) -> None:
    folder = house(tmp_path / "house", bundle)
    service = start_in(folder, command=[str(python), "-m", "bentoml", "serve"]).wait_until_ready()
    with service.client() as client:
        answer = client.post("/predict", json={"designation": "Piscine ronde"})
        assert answer.json()["model_version"] == "1"
        for page in ("/", "/docs", "/metrics", "/model"):
            assert (page, client.get(page).status_code) == (page, 200)
    assert service.terminate() == 0
