"""The DAG by DVC: what runs again and what does not, what is kept, and what a kill leaves behind."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from tests.pipeline.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STAGES = ["compose", "ingest", "features", "train", "evaluate", "predict"]


@contextmanager
def changed(project: Project, name: str, old: str, new: str) -> Iterator[None]:
    """A file that holds `new` for a while."""
    path = project.folder / name
    before, times = path.read_bytes(), path.stat()
    project.edit(name, old, new)
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        project.repro("compose")


def test_the_lock_covers_every_stage_and_the_second_time_does_nothing(finished: Project) -> None:
    assert sorted(finished.lock) == sorted(STAGES)
    assert finished.repro() == []
    assert finished.stale() == set()


def test_stages_alone_write_the_fixed_places(finished: Project) -> None:
    for name in (
        "data/interim/shop/merged_train.csv",
        "data/processed/shop/predictions.csv",
        "models/shop/bundle.json",
        "models/shop/card.md",
        "metrics.json",
        "reports/evaluation/shop/report.html",
    ):
        assert (finished.folder / name).is_file(), name
    scores = json.loads((finished.folder / "metrics.json").read_text())
    assert f"{scores['test']['both']['weighted_f1']:.4}"[:6] in finished.dvc("metrics", "show").stdout
    finished.dvc("plots", "show", "--out", "plots")
    assert (finished.folder / "plots/index.html").stat().st_size > 5_000
    shutil.rmtree(finished.folder / "plots")


def test_the_run_carries_the_lock_as_the_stage_left_it(finished: Project, tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{finished.folder / 'outputs/mlflow.db'}")
    lineage = json.loads((finished.folder / "models/shop/bundle.json").read_text())["lineage"]
    names = {each.path for each in client.list_artifacts(lineage["tracking_id"])}
    assert {"dvc.yaml", "dvc.lock", "config.yaml", "bundle", "evaluation"} <= names
    lock = Path(client.download_artifacts(lineage["tracking_id"], "dvc.lock", str(tmp_path))).read_text()
    assert yaml.safe_load(lock)["stages"]["train"] == finished.lock["train"]
    run = client.get_run(lineage["tracking_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["rakuten.run_id"] == lineage["rakuten.run_id"]
    assert len(lineage["rakuten.run_id"]) == 36


def test_the_way_back_from_its_bundle_is_whole(finished: Project) -> None:
    done = finished.run(sys.executable, "scripts/doctor.py", "lineage=models/shop", "json=true")
    steps = [(row["check"], row["severity"]) for row in json.loads(done.stdout)]
    assert {severity for _, severity in steps} == {"ok"}
    expected = {"bundle", "run", "bundle in MLflow", "commit", "config", "pipeline", "data", "raw data"}
    assert {name for name, _ in steps} == expected, "a clean checkout has no uncommitted changes"


def test_a_changed_row_or_photo_makes_stale_what_reads_the_catalogue(finished: Project) -> None:
    root = finished.folder / "data/shop"
    for path in (root / "X_train.csv", sorted(root.glob("images/image_train/*.jpg"))[0]):
        before = path.read_bytes()
        path.write_bytes(before[:-50])
        try:
            assert set(finished.status()) == {"ingest", "features", "predict"}
        finally:
            path.write_bytes(before)
    assert finished.stale() == set()


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in ("data/interim", "data/processed", "models", "reports")
        for path in sorted((folder / name).rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_push_wipe_pull_gives_the_same_from_a_folder(finished: Project, tmp_path: Path) -> None:
    finished.dvc("remote", "add", "--default", "--force", "--local", "store", str(tmp_path))
    round_trip(finished)


def round_trip(project: Project, **environment: str) -> None:
    before = hashes(project.folder)
    assert len(before) > 20
    project.dvc("push", **environment)
    for name in ("data/interim", "data/processed", "models", "reports", ".dvc/cache"):
        shutil.rmtree(project.folder / name)
    project.dvc("pull", **environment)
    assert hashes(project.folder) == before
    assert project.repro() == []


def test_the_flow_leaves_the_lock_true(finished: Project, tmp_path: Path) -> None:
    home = {"PREFECT_HOME": str(tmp_path / "prefect")}
    with changed(finished, "conf/evaluate.yaml", "bootstrap: 1000", "bootstrap: 20"):
        done = finished.run(sys.executable, "scripts/pipeline.py", **home)
        assert done.stdout.splitlines()[-1] == "models/shop"
        rows = [line.split("│")[1:3] for line in done.stderr.splitlines() if line.startswith("│")]
        ended = {stage.strip(): state.strip() for stage, state in rows}
        assert ended == dict.fromkeys(STAGES, "current") | {"compose": "ran", "evaluate": "ran"}
        assert finished.repro() == []

    with changed(finished, "conf/experiment/tiny.yaml", "max_epochs: 1,", "max_epochs: 1, precision: 99,"):
        failed = finished.run(sys.executable, "scripts/pipeline.py", check=False, **home)
    assert failed.returncode == 2
    last = failed.stderr.strip().splitlines()
    assert "stage compose failed" in last
    assert any("`trainer.precision` is wrong" in line for line in last[-6:])


def test_a_killed_stage_leaves_nothing_that_counts_and_goes_on(finished: Project) -> None:
    lock = finished.lock
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--single-item", "--force", "train"],
        cwd=finished.folder, env=finished.environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    known = set((finished.folder / "outputs").glob("*/checkpoints/run.json"))
    while not set((finished.folder / "outputs").glob("*/checkpoints/run.json")) - known:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (finished.folder / "models/shop").exists()
    assert finished.lock == lock, "what did not end is not in the lock"
    assert "train" in finished.stale()
    assert finished.repro() == ["train", "evaluate", "predict"]
    assert finished.stale() == set()
    client = MlflowClient(f"sqlite:///{finished.folder / 'outputs/mlflow.db'}")
    states = [
        run.info.status
        for run in client.search_runs([client.get_experiment_by_name("rakuten").experiment_id])
    ]
    assert states == ["FINISHED", "FINISHED"], "the killed run was resumed, not begun anew"
