"""The file .env: what lacks in it, who may read it, who keeps it."""

import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from rakuten.doctor.check import Severity
from rakuten.doctor.environment import check_rights, check_secrecy, check_variables
from tests.conftest import ROOT
from tests.doctor.conftest import assert_finding, run_git

OK, SKIPPED, WARNING, ERROR = Severity.OK, Severity.SKIPPED, Severity.WARNING, Severity.ERROR
EXAMPLE = """\
# The bucket
S3_BUCKET_NAME=

AWS_DEFAULT_REGION=eu-west-3
# OTHER=1

# An S3 server that is not Amazon's.
# Empty for Amazon's.
AWS_ENDPOINT_URL_S3=http://127.0.0.1:9000
"""


@pytest.fixture
def checkout(repository: Path) -> Path:
    """A repository with .env.example and an .env that nobody else sees."""
    (repository / ".env.example").write_text(EXAMPLE)
    (repository / ".gitignore").write_text(".env\n")
    (repository / ".env").write_text("S3_BUCKET_NAME=shop\nSECRET=hunter2\n")
    (repository / ".env").chmod(0o600)
    return repository


def test_a_fresh_checkout_needs_none(checkout: Path) -> None:
    (checkout / ".env").unlink()
    assert_finding(check_variables(checkout), SKIPPED, "there is none", cure="make env")
    assert_finding(check_rights(checkout), SKIPPED, "no .env")
    assert_finding(check_secrecy(checkout), SKIPPED, "no .env")


def test_all_is_there(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_BUCKET_NAME", "shop")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    assert_finding(check_variables(checkout), OK, "all 2 variables that .env.example asks for")
    assert_finding(check_rights(checkout), OK, "its owner alone")
    assert_finding(check_secrecy(checkout), OK, "git ignores it")


def test_one_is_missing_and_one_empty(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_BUCKET_NAME", " ")
    finding = check_variables(checkout)
    assert_finding(
        finding, WARNING, "S3_BUCKET_NAME is empty", "AWS_DEFAULT_REGION is missing", cure="set it in .env"
    )
    assert "hunter2" not in str(finding)


def test_others_may_read_it(checkout: Path) -> None:
    (checkout / ".env").chmod(0o644)
    assert_finding(check_rights(checkout), WARNING, "644", cure="chmod 600 .env")


def test_git_would_take_it(checkout: Path) -> None:
    (checkout / ".gitignore").unlink()
    assert_finding(check_secrecy(checkout), WARNING, "git does not ignore it", cure=".gitignore")


def test_git_has_it(checkout: Path) -> None:
    run_git(checkout, "add", "--force", ".env")
    assert_finding(check_secrecy(checkout), ERROR, "git tracks it", cure="git rm --cached .env")


def test_outside_git(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("")
    assert_finding(check_secrecy(tmp_path), SKIPPED, "no git repository")


def test_the_example_of_this_project_says_what_may_be_empty(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `make env` leaves empty is no fault."""
    (repository / ".env.example").write_text((ROOT / ".env.example").read_text())
    subprocess.run([sys.executable, str(ROOT / "deploy/make_env.py"), str(repository)], check=True)
    for name, value in dotenv_values(repository / ".env").items():
        monkeypatch.setenv(name, value or "")
    assert_finding(check_variables(repository), OK, "all ")
    assert_finding(check_rights(repository), OK, "its owner alone")
    monkeypatch.setenv("POSTGRES_PASSWORD", "")
    assert_finding(check_variables(repository), WARNING, "POSTGRES_PASSWORD is empty")
