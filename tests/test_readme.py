"""The README says what is true: its tree is the disk's, its commands run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.scripts import run_forked

README = (ROOT / "README.md").read_text(encoding="utf-8")
# What makes a command of the README small: the same verbs and options on a catalogue of a few hundred products.
SMALL = {
    "train": [
        "data.demo.num_products=400",
        "data.demo.num_unlabelled=20",
        "trainer.max_epochs=1",
        "bootstrap=20",
    ],
    "evaluate": ["data.demo.num_products=400", "data.demo.num_unlabelled=20", "bootstrap=20"],
    "predict": ["data.demo.num_products=400", "data.demo.num_unlabelled=20"],
    "doctor": ["ports=[]"],  # others than this project's may be in use where this test runs
    "promote": [
        "data.demo.num_products=400",
        "data.demo.num_unlabelled=20",
        "gate.min_weighted_f1=0.0",
        "gate.max_ece=1.0",
        "gate.min_test_products=10",
    ],
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


# Of a study, one trial; the last value of a setting counts.
SMALL_STUDY = [*SMALL["train"], "n_trials=1", "tracking=off"]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return run_forked(Path(arguments[0]), arguments[1:], folder, environment)


def test_tree_names_every_module() -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rakuten").rglob("*.py")}
    expected = {name.removeprefix("rakuten/") for name in modules if not name.endswith("__init__.py")}
    tree = README.split("## Reading the code")[1]
    folder, named = "", set()
    for line in tree.splitlines():
        if match := re.match(r"^rakuten/(\S*)", line):
            folder = match.group(1)
        elif match := re.match(r"^    (\S+\.py)", line):
            named.add(folder + match.group(1))
    assert named == expected


def test_error_example_is_what_comes_out(tmp_path: Path) -> None:
    command, *shown = blocks("console")[0].strip().splitlines()
    script, *arguments = shlex.split(command)[2:]
    command = [sys.executable, str(ROOT / script), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == shown


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("studies", [False, pytest.param(True, marks=pytest.mark.acceptance)])
def test_commands_run(studies: bool, tmp_path: Path) -> None:
    """In their order; those that are many runs take minutes each even here, and are only read in test_sweep_cli."""
    commands = [line for block in blocks("sh") for line in block.strip().splitlines()]
    commands = [each for each in commands if studies or " -m " not in each]
    assert len(commands) >= 8
    for command in commands:
        program, script, *arguments = shlex.split(command)
        assert program == "python"
        small = [] if "--help" in arguments else SMALL[Path(script).stem]
        if "-m" in arguments and any("sweep" in argument for argument in arguments):
            small = SMALL_STUDY
        done = run([str(ROOT / script), *arguments, *small], tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"
