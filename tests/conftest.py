"""Fixtures that more than one test module needs."""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from rakuten.config import DataConfig

ROOT = Path(__file__).parents[1]
# Before anything imports BentoML, and for every script that a test starts: the user's own store is none of ours.
os.environ["BENTOML_HOME"] = tempfile.mkdtemp(prefix="bentoml-")
gc.set_threshold(10_000, 10, 10)  # test modules import some thousand others, none of which is garbage


def pytest_collection_finish() -> None:
    """What the test modules imported stays: no round of the collector is to look through it."""
    gc.freeze()


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills, by one of pytest's workers for all: read it, and copy what you would change."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            make(folder)
            (folder / "made").touch()
    return folder


@pytest.fixture
def make_data_config(tmp_path: Path) -> Callable[..., DataConfig]:
    """A function giving conf/data/rakuten.yaml as a DataConfig whose folders all lie below `tmp_path`."""

    def make(**changes: Any) -> DataConfig:
        files = [OmegaConf.load(ROOT / f"conf/data/{name}.yaml") for name in ("base", "rakuten")]
        base = OmegaConf.merge(*files)
        del base["defaults"]
        paths = {
            "root": str(tmp_path / "raw"),
            "interim_dir": str(tmp_path / "interim"),
            "processed_dir": str(tmp_path / "processed"),
            "cache_dir": str(tmp_path / "cache"),
            "prepare": "here",
        }
        merged = OmegaConf.merge(base, paths, changes)
        return TypeAdapter(DataConfig).validate_python(OmegaConf.to_container(merged, resolve=True))

    return make


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in the working tree, as a repository that is only to be cloned."""
    from tests.workflows import make_origin

    return make_origin(tmp_path_factory.mktemp("origin"))


@pytest.fixture
def checkout(origin: Path, tmp_path: Path) -> Path:
    """A clone of it, on main."""
    from tests.workflows import git

    git(tmp_path, "clone", "--quiet", str(origin), "checkout")
    return tmp_path / "checkout"
