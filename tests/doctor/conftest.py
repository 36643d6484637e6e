"""What several checks are tried on: a repository of git's, an S3 that asks who one is."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rakuten.doctor.check import Finding, Severity
from tests.services import S3Server, s3_server

BUCKET = "shop"
SERVICES = ("AWS_", "MLFLOW_", "POSTGRES_", "S3_", "STACK_")


@pytest.fixture(autouse=True)
def no_services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting or credential of whoever runs the tests."""
    import os

    for name in list(os.environ):
        if name.startswith(SERVICES) and name != "MLFLOW_DISABLE_TELEMETRY":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "no-such-file"))


def assert_finding(finding: Finding, severity: Severity, *words: str, cure: str = "") -> None:
    """All `words` in what was found, `cure` in what mends it."""
    assert finding.severity == severity, finding
    assert all(word in finding.found for word in words), finding
    assert cure in (finding.cure or ""), finding
    if severity in (Severity.WARNING, Severity.ERROR):
        assert finding.cure, finding


def run_git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty git repository."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    run_git(folder, "init", "--quiet")
    run_git(folder, "config", "user.email", "a@example.org")
    run_git(folder, "config", "user.name", "A")
    return folder


@dataclass(frozen=True)
class Keys:
    key_id: str
    secret: str


@dataclass(frozen=True)
class Store:
    """An S3 with one bucket, which lets in nobody but its users."""

    server: S3Server
    owner: Keys  # may do all
    new_user: Callable[[str, list[str]], Keys]  # name, the actions it may do


@pytest.fixture(scope="session")
def s3_store() -> Iterator[Store]:
    with s3_server() as server:
        server.client().create_bucket(Bucket=BUCKET)
        iam = server.client("iam")

        def new_user(name: str, actions: list[str]) -> Keys:
            server.enforce_rights(False)
            statement: dict[str, Any] = {"Effect": "Allow", "Action": actions, "Resource": "*"}
            policy = {"Version": "2012-10-17", "Statement": [statement]}
            iam.create_user(UserName=name)
            iam.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=json.dumps(policy))
            key = iam.create_access_key(UserName=name)["AccessKey"]
            server.enforce_rights()
            return Keys(key["AccessKeyId"], key["SecretAccessKey"])

        yield Store(server, new_user("owner", ["s3:*"]), new_user)
