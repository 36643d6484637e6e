"""Git and DVC: two real repositories in one folder, and what goes wrong between them."""

import subprocess
import sys
from pathlib import Path

import pytest

from rakuten.doctor.check import Check, Severity, run_checks
from rakuten.doctor.versioning import check_dvc, check_lock, check_owners, check_remote
from tests.doctor.conftest import assert_finding, run_git
from tests.services import free_port

OK, SKIPPED, WARNING, ERROR = Severity.OK, Severity.SKIPPED, Severity.WARNING, Severity.ERROR
STAGES = """\
stages:
  first:
    cmd: echo 1 > first.csv
    outs: [first.csv]
  second:
    foreach: [a, b]
    do:
      cmd: cat first.csv > ${item}.csv
      deps: [first.csv]
      outs:
        - ${item}.csv
  third:
    cmd: echo 1 > scores.json
    metrics:
      - scores.json: {cache: false}
"""


def dvc(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def checkout(repository: Path) -> Path:
    """A repository of git's and of DVC's, with four stages."""
    (repository / ".dvc").mkdir()
    (repository / ".dvc/config").touch()
    (repository / "dvc.yaml").write_text(STAGES)
    return repository


def test_no_repository_of_dvcs(repository: Path) -> None:
    assert_finding(check_dvc(repository), SKIPPED, "no repository of DVC's", cure="dvc init")
    for check in (check_remote, check_lock, check_owners):
        assert_finding(check(repository), SKIPPED, "no repository of DVC's")
    (repository / "dvc.yaml").touch()
    assert_finding(check_dvc(repository), ERROR, "dvc.yaml needs one", cure="dvc init")


def test_dvc_is_not_installed(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dvc", None)  # as if it were not: no import of it succeeds
    assert_finding(check_dvc(checkout), ERROR, "it is not installed", cure="rakuten[pipeline]")
    assert_finding(check_dvc(tmp_path), SKIPPED, "it is not installed", cure="rakuten[pipeline]")


def test_dvc(checkout: Path) -> None:
    assert_finding(check_dvc(checkout), OK, "3.", str(checkout))


def configure(checkout: Path, *lines: str) -> None:
    (checkout / ".dvc/config").write_text("\n".join(lines) + "\n")


def test_no_remote(checkout: Path) -> None:
    assert_finding(check_remote(checkout), SKIPPED, "no remote", cure="dvc remote add --default")


def test_remotes(checkout: Path, tmp_path: Path) -> None:
    section = "['remote \"far\"']"
    configure(checkout, section, "url = /nowhere")
    assert_finding(check_remote(checkout), WARNING, "none of the remotes far", cure="dvc remote default")
    configure(checkout, "[core]", "remote = farther", section, "url = /nowhere")
    assert_finding(check_remote(checkout), ERROR, "the default remote farther is not configured")
    configure(checkout, "[core]", "remote = far", section, "url = /nowhere")
    assert_finding(check_remote(checkout), ERROR, "far: /nowhere is not there", cure="dvc remote modify")
    (tmp_path / "remote").mkdir()
    configure(checkout, "[core]", "remote = far", section, "url = ../../remote")  # from where the file is
    assert_finding(check_remote(checkout), OK, f"{tmp_path}/remote")


@pytest.mark.parametrize("user", ["", "shop:hunter2@"])
def test_a_remote_where_nobody_listens(checkout: Path, user: str) -> None:
    url = f"http://{user}127.0.0.1:{free_port()}/dvc"
    configure(checkout, "[core]", "remote = far", "['remote \"far\"']", f"url = {url}")
    finding = check_remote(checkout)
    assert_finding(finding, ERROR, "far: http://", "nobody listens", cure="dvc remote modify")
    assert "hunter2" not in str(finding)


@pytest.mark.slow
def test_the_lock_covers_some_of_the_stages(checkout: Path) -> None:
    assert_finding(check_lock(checkout), SKIPPED, "no dvc.lock yet", cure="dvc repro")
    assert dvc(checkout, "repro", "second@a").returncode == 0
    finding = check_lock(checkout)
    assert_finding(finding, WARNING, "dvc.lock lacks second@b, third", cure="dvc repro")
    assert dvc(checkout, "repro").returncode == 0
    assert_finding(check_lock(checkout), OK, "all 4 stages")


def test_there_are_no_stages(checkout: Path) -> None:
    (checkout / "dvc.yaml").unlink()
    assert_finding(check_lock(checkout), SKIPPED, "no dvc.yaml")
    assert_finding(check_owners(checkout), OK, "DVC owns nothing")


@pytest.mark.slow
def test_git_tracks_what_dvc_owns(checkout: Path) -> None:
    (checkout / "photos").mkdir()
    (checkout / "photos/1.jpg").write_text("1")
    assert dvc(checkout, "add", "photos").returncode == 0
    assert_finding(check_owners(checkout), OK, "none of the 4")
    for name in ("first.csv", "scores.json"):  # metrics outside the cache are git's by right
        (checkout / name).write_text("1")
    run_git(checkout, "add", "--force", "first.csv", "scores.json", "photos/1.jpg")
    run_git(checkout, "commit", "--quiet", "-m", "all of it")
    finding = check_owners(checkout)
    assert_finding(
        finding,
        ERROR,
        "git tracks what DVC owns: first.csv, photos",
        cure="git rm -r --cached first.csv photos",
    )
    assert "scores.json" not in finding.found
    refused = dvc(checkout, "repro", "first")
    assert "already tracked by SCM" in refused.stderr, "what DVC would say"
    run_git(checkout, "rm", "-r", "--quiet", "--cached", "first.csv", "photos")
    assert dvc(checkout, "repro", "first").returncode == 0
    assert_finding(check_owners(checkout), OK, "none of the 4")


def test_stages_that_cannot_be_read(checkout: Path) -> None:
    (checkout / "dvc.yaml").write_text("stages: {first")
    for check in (check_lock, check_owners):
        ((_, finding),) = run_checks([Check("x", lambda check=check: check(checkout))])  # type: ignore[misc]
        assert_finding(finding, ERROR, "dvc.yaml", cure="dvc stage list")


def test_no_git(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    assert_finding(check_owners(tmp_path), SKIPPED, "no git repository")
