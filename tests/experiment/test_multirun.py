"""Several runs by one command without a study: below one run, averaged over seeds, with whatever launcher."""

import re
import statistics
from pathlib import Path

import pytest
import yaml

from rakuten.experiment.runs import all_runs
from tests.experiment.conftest import DEMO, FUSION, LOOP, Shop, run_script
from tests.experiment.sweeps import machine, mlflow_runs

COMMAND = [
    "-m",
    "model/fusion=concat,late",
    "seed=1,2",
    *DEMO,
    *FUSION,
    *LOOP,
    "trainer=cpu",
    "trainer.max_epochs=1",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param([], id="basic"),
        pytest.param(
            ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], id="joblib", marks=pytest.mark.acceptance
        ),
    ],
)
def test_runs_stand_below_one_and_are_averaged_over_seeds(
    launcher: list[str], shop: Shop, tmp_path: Path
) -> None:
    folder = machine(tmp_path / "here", shop)
    done = run_script("train", [*COMMAND, *launcher], folder)
    assert done.returncode == 0, done.stderr
    runs = list(all_runs(folder / "outputs"))
    assert len(runs) == 4
    assert len({run.group for run in runs}) == 1
    [group] = {run.group for run in runs}
    recorded = {name: (status, tags) for name, status, tags in mlflow_runs(folder)}
    assert len(recorded) == 5
    status, parent = recorded.pop(f"multirun-{group}")
    assert status == "FINISHED"
    assert all(status == "FINISHED" for status, _ in recorded.values())
    assert {tags["mlflow.parentRunId"] for _, tags in recorded.values()} == {parent["run_id"]}
    path = folder / "outputs/mlartifacts" / parent["run_id"] / "artifacts/over_seeds.yaml"
    rows = yaml.safe_load(path.read_text())
    assert {row["settings"]["model.fusion.kind"] for row in rows} == {"concat", "late"}
    for row in rows:
        assert sorted(row["seeds"]) == [1, 2]
    scores = [run.result["test/weighted_f1"] for run in runs if run.result]
    means = [row["scores"]["test/weighted_f1"]["mean"] for row in rows]
    assert statistics.fmean(means) == pytest.approx(statistics.fmean(scores))
    assert "mean over seeds" in done.stderr
    assert (
        len(re.findall(r"^outputs/.*/bundle$", done.stdout, re.MULTILINE)) == (4 if not launcher else 0)
        or launcher
    )


@pytest.mark.slow
def test_a_run_that_fails_fails_the_group_and_the_rest_is_averaged(shop: Shop, tmp_path: Path) -> None:
    folder = machine(tmp_path / "here", shop)
    command = ["-m", "model.text.lr=0.01,1e30", *DEMO, *FUSION, *LOOP, "trainer=cpu", "trainer.max_epochs=1"]
    done = run_script("train", command, folder)
    assert done.returncode == 1
    assert "training diverged" in done.stderr
    assert "mean over seeds" in done.stderr
    statuses = sorted(status for _, status, _ in mlflow_runs(folder))
    assert statuses == ["FAILED", "FAILED", "FINISHED"]
