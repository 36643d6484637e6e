"""Who owns a run folder, and which one is meant."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rakuten.errors import RakutenError
from rakuten.experiment.runs import (
    RunFolder,
    all_runs,
    create_run,
    find_finished,
    find_interrupted,
    newest_bundle,
)


def make_run(outputs: Path, name: str, **changes: object) -> RunFolder:
    run = create_run(outputs, "key")
    run.path.rename(outputs / name)
    return replace(run, path=outputs / name, **changes).save()  # type: ignore[arg-type]


def with_checkpoint(run: RunFolder) -> RunFolder:
    (run.checkpoints / "last.ckpt").touch()
    return run


def test_a_run_of_a_living_process_is_not_abandoned(tmp_path: Path) -> None:
    assert not create_run(tmp_path, "key").is_abandoned
    assert find_interrupted(tmp_path, "key") is None


@pytest.mark.parametrize("changes", [{"pid": 2**22 - 1}, {"pid_started": 1.0}])
def test_a_run_whose_process_is_gone_is_abandoned(tmp_path: Path, changes: dict[str, float]) -> None:
    """Also where another process has its number by now."""
    run = make_run(tmp_path, "20260101-000000-aaaaaa", **changes)
    assert run.is_abandoned
    assert find_interrupted(tmp_path, "key") == run


def test_a_run_of_another_machine_is_left_alone(tmp_path: Path) -> None:
    assert not make_run(tmp_path, "a", pid=2**22 - 1, host="elsewhere").is_abandoned


def test_the_newest_interrupted_run_with_a_checkpoint_comes_first(tmp_path: Path) -> None:
    with_checkpoint(make_run(tmp_path, "1", state="killed"))
    second = with_checkpoint(make_run(tmp_path, "2", state="failed"))
    third = make_run(tmp_path, "3", state="killed")
    with_checkpoint(make_run(tmp_path, "4", state="killed", config_key="other"))
    with_checkpoint(make_run(tmp_path, "5", state="finished"))
    assert find_interrupted(tmp_path, "key") == second
    (second.checkpoints / "last.ckpt").unlink()
    (tmp_path / "1/checkpoints/last.ckpt").unlink()
    assert find_interrupted(tmp_path, "key") == third
    assert find_interrupted(tmp_path, "nobody's") is None
    finished = find_finished(tmp_path, "key")
    assert finished is not None
    assert finished.run_id == "5"


def test_torn_and_foreign_folders_are_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path, "1")
    for name, text in (("2", "{"), ("3", "{}"), ("4", json.dumps({"state": "running"}))):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints/run.json").write_text(text)
    (tmp_path / "mlartifacts").mkdir()
    assert list(all_runs(tmp_path)) == [run]


def test_the_newest_bundle(tmp_path: Path) -> None:
    with pytest.raises(RakutenError, match=r"no bundle below .*\n.*scripts/train.py"):
        newest_bundle(tmp_path / "nowhere")
    for name in ("1", "2", "3"):
        run = make_run(tmp_path, name)
        if name != "3":
            run.bundle.mkdir()
            (run.bundle / "bundle.json").touch()
    assert newest_bundle(tmp_path) == tmp_path / "2/bundle"
