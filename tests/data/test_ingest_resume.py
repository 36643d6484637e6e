"""Ingest again: unchanged, changed, killed half-way."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

from rakuten.config import DataConfig
from rakuten.data.files import atomic_write
from rakuten.data.ingest import ingest, ingest_is_current
from rakuten.errors import DataError

MakeConfig = Callable[..., DataConfig]
OUTPUTS = ("merged_train.csv", "quarantine.csv", "ingest.json")
NUM_PRODUCTS = 60


@pytest.fixture
def config(make_data_config: MakeConfig) -> DataConfig:
    made = make_data_config()
    photos = made.root / "images/image_train"
    photos.mkdir(parents=True)
    stream = BytesIO()
    Image.new("RGB", (16, 16), "white").save(stream, "JPEG")
    x, y = [",designation,description,productid,imageid"], [",prdtypecode"]
    for n in range(NUM_PRODUCTS):
        x.append(f"{n},Produit {n},,{1000 + n},{2000 + n}")
        y.append(f"{n},{10 if n % 7 else 99}")
        (photos / f"image_{2000 + n}_product_{1000 + n}.jpg").write_bytes(stream.getvalue())
    (made.root / "X_train.csv").write_text("\n".join(x), encoding="utf-8")
    (made.root / "Y_train.csv").write_text("\n".join(y), encoding="utf-8")
    return made


def outputs(config: DataConfig) -> dict[str, bytes]:
    return {name: (config.interim_dir / name).read_bytes() for name in OUTPUTS}


def edit(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(old, new))


def test_same_input_same_bytes(config: DataConfig) -> None:
    assert ingest_is_current(config)[0] is False
    ingest(config, console=None)
    first = outputs(config)
    ingest(config, console=None)
    assert outputs(config) == first
    assert ingest_is_current(config) == (True, "up to date")


CHANGES = [
    pytest.param(lambda c: edit(c.root / "X_train.csv", b"Produit 3,", b"Produit X,"), "X_train.csv", id="x"),
    pytest.param(lambda c: edit(c.root / "Y_train.csv", b"3,10", b"3,40"), "Y_train.csv", id="y"),
    pytest.param(lambda c: (c.root / "X_train.csv").unlink(), "x_train is missing", id="x-gone"),
    pytest.param(lambda c: edit(photo(c, 5), b"JFIF", b"XXXX"), "photos", id="photo-changed-same-size"),
    pytest.param(lambda c: photo(c, 5).unlink(), "photos", id="photo-gone"),
    pytest.param(lambda c: photo(c, 999).write_bytes(b"x"), "photos", id="photo-new"),
    pytest.param(
        lambda c: edit(c.interim_dir / OUTPUTS[0], b"Produit 3,", b"Produit X,"),
        OUTPUTS[0],
        id="merged-edited",
    ),
    pytest.param(lambda c: (c.interim_dir / OUTPUTS[0]).unlink(), OUTPUTS[0], id="merged-gone"),
    pytest.param(lambda c: (c.interim_dir / OUTPUTS[1]).unlink(), OUTPUTS[1], id="quarantine-gone"),
    pytest.param(lambda c: (c.interim_dir / OUTPUTS[2]).unlink(), "no ", id="report-gone"),
    pytest.param(
        lambda c: (c.interim_dir / OUTPUTS[2]).write_bytes(b'{"format": 1'), "damaged", id="report-torn"
    ),
    pytest.param(
        lambda c: edit(c.interim_dir / OUTPUTS[2], b'"format": 1', b'"format": 0'), "version", id="old-format"
    ),
]


def photo(config: DataConfig, n: int) -> Path:
    return config.root / f"images/image_train/image_{2000 + n}_product_{1000 + n}.jpg"


@pytest.mark.parametrize(("change", "word"), CHANGES)
def test_stale_says_why(config: DataConfig, change: Callable[[DataConfig], object], word: str) -> None:
    ingest(config, console=None)
    change(config)
    current, reason = ingest_is_current(config)
    assert not current
    assert word in reason


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"limits": {"image_pixels": 100}}, "data.limits"),
        ({"codes": {77: "Autre"}}, "data.codes"),
        ({"encoding": "latin-1"}, "data.encoding"),
        ({"files": {"image_name": "{imageid}.jpg"}}, "data.files"),
    ],
)
def test_changed_config_is_stale(
    config: DataConfig, make_data_config: MakeConfig, changes: dict[str, object], word: str
) -> None:
    ingest(config, console=None)
    current, reason = ingest_is_current(make_data_config(**changes))
    assert not current
    assert word in reason


def test_config_that_does_not_matter_is_not_stale(config: DataConfig, make_data_config: MakeConfig) -> None:
    ingest(config, console=None)
    assert ingest_is_current(make_data_config(split={"salt": 5}, limits={"text_chars": 10}))[0]


def test_moved_catalogue_is_current(config: DataConfig, make_data_config: MakeConfig, tmp_path: Path) -> None:
    ingest(config, console=None)
    config.root.rename(tmp_path / "elsewhere")
    assert ingest_is_current(make_data_config(root=str(tmp_path / "elsewhere")))[0]


def test_failed_ingest_leaves_no_mark_of_completeness(config: DataConfig) -> None:
    ingest(config, console=None)
    edit(config.root / "Y_train.csv", b",10", b",98")
    with pytest.raises(DataError, match="not one row"):
        ingest(config, console=None)
    assert not ingest_is_current(config)[0]


def test_atomic_write_leaves_the_old_file_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with atomic_write(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError):
        _write_half(path)
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file"]  # noqa: PTH208


def _write_half(path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError


# Writes one row at a time and dawdles, so that a kill finds it in the middle of any of its steps.
SLOW_INGEST = """
import os, sys, time
from pathlib import Path
from omegaconf import OmegaConf
from pydantic import TypeAdapter
from rakuten.config import DataConfig
from rakuten.data import ingest as module

class Dawdling:
    def __init__(self, call): self.call = call
    def __call__(self, *args):
        time.sleep(0.002)
        return self.call(*args)

module._merged_row = Dawdling(module._merged_row)
module._quarantine_row = Dawdling(module._quarantine_row)
module.file_fingerprint = Dawdling(module.file_fingerprint)
config = TypeAdapter(DataConfig).validate_python(OmegaConf.to_container(OmegaConf.load(sys.argv[1])))
print("ready", flush=True)
module.ingest(config, console=None)
"""


def test_killed_at_any_moment_then_run_again(
    config: DataConfig, make_data_config: MakeConfig, tmp_path: Path
) -> None:
    undisturbed = make_data_config(interim_dir=str(tmp_path / "undisturbed"))
    ingest(undisturbed, console=None)
    settings = tmp_path / "config.yaml"
    conf = Path(__file__).parents[2] / "conf/data"
    base = OmegaConf.merge(*(OmegaConf.load(conf / f"{name}.yaml") for name in ("base", "rakuten")))
    del base["defaults"]
    paths = {"root": str(config.root), "interim_dir": str(config.interim_dir), "processed_dir": str(tmp_path)}
    OmegaConf.save(
        OmegaConf.create(OmegaConf.to_container(OmegaConf.merge(base, paths), resolve=True)), settings
    )
    moments = random.Random(0)
    num_killed = 0
    for _ in range(6):
        _run_and_kill(settings, after_s=moments.uniform(0.0, 0.25))
        if not ingest_is_current(config)[0]:
            num_killed += 1
        else:
            assert outputs(config) == outputs(undisturbed)
            (config.interim_dir / "ingest.json").unlink()
    assert num_killed > 0
    ingest(config, console=None)
    assert outputs(config) == outputs(undisturbed)
    left = {path.name for path in config.interim_dir.iterdir()}
    assert left == {*OUTPUTS, ".ingest.lock"}


def _run_and_kill(settings: Path, after_s: float) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW_INGEST, str(settings)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
