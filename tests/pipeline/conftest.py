"""A copy of this project as a repository of its own, with a catalogue and a model of a test's size."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rakuten.cli import compose
from rakuten.data.demo import ensure_demo
from tests.conftest import ROOT

ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "160",
    "DVC_NO_ANALYTICS": "true",
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}
CATALOGUE = """\
defaults:
  - rakuten
  - _self_
name: shop
root: data/shop
"""
EXPERIMENT = """\
# @package _global_
trainer: {max_epochs: 1, threads: 1, patience: 1}
bootstrap: 10
model:
  text: {num_buckets: 512, embedding_dim: 16, max_tokens: 64, char_ngrams: [0, 0]}
  image: {image_px: 32}
  fusion: {hidden_dim: 16}
"""


@dataclass
class Project:
    """A working copy in which DVC and the scripts run."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return ENVIRONMENT | {"PYTHONPATH": str(self.folder)}  # its own code, not the installed one

    def run(
        self, *command: str, check: bool = True, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=580,
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def dvc(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check, **environment)

    def repro(self, *arguments: str) -> list[str]:
        """Stages that ran."""
        lines = self.dvc("repro", *arguments).stdout.splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]

    def stale(self) -> set[str]:
        """Stages that something which they themselves depend on has changed for, once conf/ is composed."""
        self.repro("compose")
        return self.status()

    def status(self) -> set[str]:
        """The same, as things stand."""
        return set(yaml.safe_load(self.dvc("status", "--json").stdout))

    @property
    def lock(self) -> dict[str, Any]:
        stages: dict[str, Any] = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]
        return stages

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text(encoding="utf-8")
        assert old in text, f"{name} holds no {old!r}"
        self.write(name, text.replace(old, new, 1))


def make_project(folder: Path) -> Project:
    """The project as it stands on disk, committed, its pipeline set to a catalogue `shop` of 300 products."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith(("tests/", "notebooks/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    project = Project(folder)
    for name in ("dvc.lock", "params.yaml", "metrics.json"):
        (folder / name).unlink(missing_ok=True)
    project.write("conf/data/shop.yaml", CATALOGUE)
    project.write("conf/experiment/tiny.yaml", EXPERIMENT)
    pipeline = yaml.safe_load((folder / "conf/pipeline.yaml").read_text())
    pipeline["dag"] |= {"data": "shop", "root": "data/shop", "generated": [], "experiment": "tiny"}
    pipeline["retries"] = 0
    project.write("conf/pipeline.yaml", yaml.safe_dump(pipeline, sort_keys=False))
    small = ["data.demo.num_products=300", "data.demo.num_unlabelled=30", "data.demo.image_px=32"]
    ensure_demo(compose("train", [*small, f"data.root={folder / 'data/shop'}"]).data)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "as it stands")
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose pipeline has run once. Whoever changes something puts it back."""
    project = make_project(tmp_path_factory.mktemp("project"))
    assert project.repro() == ["compose", "ingest", "features", "train", "evaluate", "predict"]
    return project
