"""A tiny demo catalogue and a tiny model, trained once by the real script and shared by the tests of this folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rakuten.cli import compose
from rakuten.config import EvaluateConfig, PredictConfig, TrainConfig
from rakuten.data.demo import ensure_demo
from rakuten.data.features import Features, load_features
from tests.scripts import run_forked

ROOT = Path(__file__).parents[2]
DEMO = ["data.demo.num_products=320", "data.demo.num_unlabelled=60", "data.demo.image_px=32"]
TEXT = [
    "model.text.num_buckets=512",
    "model.text.embedding_dim=16",
    "model.text.max_tokens=64",
    "model.text.char_ngrams=[0,0]",
]
IMAGE = ["model.image.image_px=32"]
LOOP = ["trainer.max_epochs=2", "trainer.threads=1", "bootstrap=20"]
FUSION = [*TEXT, *IMAGE, "model.fusion.hidden_dim=16"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def start_script(name: str, arguments: Sequence[str], folder: Path) -> "subprocess.Popen[str]":
    """scripts/<name>.py in `folder`, as a shell would start it."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / f"scripts/{name}.py"), *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background has Ctrl-C switched off, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run_script(name: str, arguments: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    return run_forked(ROOT / f"scripts/{name}.py", arguments, folder, ENVIRONMENT)


@dataclass(frozen=True)
class Shop:
    """A working directory in which scripts/train.py has trained once, tracked by MLflow."""

    folder: Path
    result: "subprocess.CompletedProcess[str]"

    @property
    def bundle(self) -> Path:
        return self.folder / self.result.stdout.strip()

    @property
    def run(self) -> Path:
        return self.bundle.parent

    @property
    def paths(self) -> list[str]:
        """Overrides that point to this catalogue from anywhere."""
        data = self.folder / "data"
        return [
            f"data.root={data / 'demo'}",
            f"data.interim_dir={data / 'cache/demo/interim'}",
            f"data.processed_dir={data / 'cache/demo/processed'}",
            "data.prepare=here",
        ]


TRACKED = ["tracking=local", "trainer=cpu", *DEMO, *FUSION, *LOOP]


def break_photos(root: Path) -> None:
    """One photo gone, one empty, one torn, one something else: every state that a product's photo can be in."""
    gone, empty, torn, other = sorted((root / "images/image_train").glob("*.jpg"))[:4]
    gone.unlink()
    empty.write_bytes(b"")
    torn.write_bytes(torn.read_bytes()[:200])
    other.write_text("not a photo")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    ensure_demo(compose("train", [*DEMO, f"data.root={folder / 'data/demo'}"]).data)
    break_photos(folder / "data/demo")
    result = run_script("train", TRACKED, folder)
    assert result.returncode == 0, result.stderr
    return Shop(folder, result)


MakeTrain = Callable[..., TrainConfig]


@pytest.fixture
def train_config(shop: Shop, tmp_path: Path) -> MakeTrain:
    """A function: overrides -> a TrainConfig on the shared catalogue, untracked, with its outputs below `tmp_path`."""

    def make(*overrides: str, model: str = "fusion_small", tiny: Sequence[str] | None = None) -> TrainConfig:
        if tiny is None:
            tiny = {"text_small": TEXT, "image_small": IMAGE}.get(model, FUSION)
        places = [f"outputs_dir={tmp_path / 'outputs'}", "tracking=off", *shop.paths]
        return compose("train", [f"model={model}", *DEMO, *tiny, *LOOP, *places, *overrides])

    return make


@pytest.fixture
def predict_config(shop: Shop, tmp_path: Path) -> Callable[..., PredictConfig]:
    def make(*overrides: str) -> PredictConfig:
        fixed = [*DEMO, *shop.paths, f"output={tmp_path / 'out.csv'}", f"bundle={shop.bundle}"]
        return compose("predict", [*fixed, *overrides], PredictConfig)

    return make


@pytest.fixture
def evaluate_config(shop: Shop, tmp_path: Path) -> Callable[..., EvaluateConfig]:
    def make(*overrides: str) -> EvaluateConfig:
        fixed = [*DEMO, *shop.paths, f"output={tmp_path / 'report'}", f"bundle={shop.bundle}", "bootstrap=10"]
        return compose("evaluate", [*fixed, *overrides], EvaluateConfig)

    return make


class Told(Console):
    """A console that remembers what people were told, and can act on it: `when(text)` gives what to call then."""

    def __init__(self, when: dict[str, Callable[[], Any]] | None = None):
        super().__init__(file=open(os.devnull, "w"), highlight=False)  # noqa: PTH123, SIM115
        self.lines: list[str] = []
        self._when = dict(when or {})

    def print(self, *objects: Any, **settings: Any) -> None:
        line = " ".join(map(str, objects))
        self.lines.append(line)
        for text in [text for text in self._when if text in line]:
            self._when.pop(text)()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(scope="session")
def features(shop: Shop) -> Features:
    config = compose("train", [*DEMO, *FUSION, *shop.paths])
    return load_features(config.data, config.model)
