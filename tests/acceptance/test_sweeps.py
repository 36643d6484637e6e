"""What sweeps must show, run for real: `make acceptance`. Kills, workers and outages are in tests/experiment/."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.experiment.sweeps import mlflow_runs

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(4 * 3600)]


def test_thirty_trials_on_demo(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/train.py"), "-m", "sweep=fusion", "n_trials=30"]
    subprocess.run(command, cwd=tmp_path, check=True)
    runs = {name: (status, tags) for name, status, tags in mlflow_runs(tmp_path)}
    [study] = [name for name in runs if not name.startswith("trial-")]
    assert runs.pop(study)[0] == "FINISHED"
    assert len(runs) == 30
    for status, tags in runs.values():
        ends = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
        assert status == ends[tags["rakuten.state"]]


def test_the_median_pruner_saves_thirty_percent_and_costs_nothing_beyond_noise(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/pruning.py"), "data.demo.num_products=3000"]
    shown = subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(shown)
    [saved] = re.findall(r"^training time +([\d.]+)% less", shown, re.MULTILINE)
    assert float(saved) >= 30
    [(difference, error)] = re.findall(r"difference ([+-][\d.]+) ± ([\d.]+)", shown)
    assert float(difference) >= -2 * float(error)
