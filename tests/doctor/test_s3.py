"""S3: every usual mistake against a real endpoint that checks keys, signatures and rights."""

import socket
from pathlib import Path

import pytest

from rakuten.doctor.check import Severity
from rakuten.doctor.s3 import check_s3
from rakuten.doctor.versioning import check_remote
from tests.doctor.conftest import BUCKET, Keys, Store, assert_finding
from tests.services import free_port

OK, SKIPPED, WARNING, ERROR = Severity.OK, Severity.SKIPPED, Severity.WARNING, Severity.ERROR


@pytest.fixture
def configured(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a user to whom all is allowed."""
    monkeypatch.setenv("S3_BUCKET_NAME", BUCKET)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_store.server.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    use(monkeypatch, s3_store.owner)
    return monkeypatch


def use(environment: pytest.MonkeyPatch, keys: Keys) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", keys.key_id)
    environment.setenv("AWS_SECRET_ACCESS_KEY", keys.secret)


def test_no_bucket_is_asked_for() -> None:
    assert_finding(check_s3(), SKIPPED, "S3_BUCKET_NAME is not set")


def test_an_object_goes_there_and_back(configured: pytest.MonkeyPatch, s3_store: Store) -> None:
    assert_finding(check_s3(), OK, "wrote, read and deleted", BUCKET)
    owner = s3_store.owner
    left = s3_store.server.client("s3", owner.key_id, owner.secret).list_objects_v2(Bucket=BUCKET)
    assert left["KeyCount"] == 0


def test_the_endpoint_that_mlflow_knows_is_known(configured: pytest.MonkeyPatch, s3_store: Store) -> None:
    configured.delenv("AWS_ENDPOINT_URL_S3")
    configured.setenv("MLFLOW_S3_ENDPOINT_URL", s3_store.server.endpoint)
    assert_finding(check_s3(), OK, s3_store.server.endpoint)


def test_an_unknown_key(configured: pytest.MonkeyPatch) -> None:
    configured.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODYATALL00000")
    assert_finding(check_s3(), ERROR, "does not know this access key id", cure="AWS_ACCESS_KEY_ID")


def test_a_wrong_secret(configured: pytest.MonkeyPatch, s3_store: Store) -> None:
    configured.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    finding = check_s3()
    assert_finding(finding, ERROR, "the secret does not belong", cure="AWS_SECRET_ACCESS_KEY")
    assert "hunter2" not in str(finding)
    assert s3_store.owner.secret not in str(finding)


def test_no_such_bucket(configured: pytest.MonkeyPatch) -> None:
    configured.setenv("S3_BUCKET_NAME", "shoop")
    assert_finding(check_s3(), ERROR, "there is no bucket shoop", cure="S3_BUCKET_NAME")


@pytest.mark.parametrize(
    ("allowed", "lacking", "severity"),
    [
        ([], "s3:PutObject", ERROR),
        (["s3:PutObject"], "s3:GetObject", ERROR),
        (["s3:PutObject", "s3:GetObject"], "s3:DeleteObject", WARNING),
    ],
)
def test_a_right_is_lacking(
    configured: pytest.MonkeyPatch, s3_store: Store, allowed: list[str], lacking: str, severity: Severity
) -> None:
    use(configured, s3_store.new_user(f"user-{len(allowed)}", allowed or ["s3:ListBucket"]))
    assert_finding(check_s3(), severity, f"lack {lacking}", cure=lacking)


def test_no_credentials(configured: pytest.MonkeyPatch) -> None:
    configured.delenv("AWS_ACCESS_KEY_ID")
    configured.delenv("AWS_SECRET_ACCESS_KEY")
    assert_finding(check_s3(), ERROR, "no credentials", cure="AWS_ACCESS_KEY_ID")


def test_half_of_the_credentials(configured: pytest.MonkeyPatch) -> None:
    configured.delenv("AWS_SECRET_ACCESS_KEY")
    assert_finding(check_s3(), ERROR, "no credentials", cure="AWS_SECRET_ACCESS_KEY")


def test_nobody_listens(configured: pytest.MonkeyPatch) -> None:
    configured.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    assert_finding(check_s3(), ERROR, "nobody listens at 127.0.0.1:", cure="AWS_ENDPOINT_URL_S3")


def test_no_such_machine(configured: pytest.MonkeyPatch) -> None:
    configured.setenv("AWS_ENDPOINT_URL_S3", "http://no-such-machine.invalid:9000")
    assert_finding(check_s3(), ERROR, "no machine is called no-such-machine.invalid")


def test_one_who_listens_and_never_answers(configured: pytest.MonkeyPatch) -> None:
    configured.setattr("rakuten.doctor.s3.TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        configured.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert_finding(check_s3(), ERROR, "timeout", cure="AWS_ENDPOINT_URL_S3")


def test_an_address_that_is_none(configured: pytest.MonkeyPatch) -> None:
    configured.setenv("AWS_ENDPOINT_URL_S3", "127.0.0.1:9000")
    assert_finding(check_s3(), ERROR, "endpoint", cure="AWS_ENDPOINT_URL_S3")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        (None, None, None),
        ("access_key_id", "AKIANOBODYATALL00000", "does not know this access key id"),
        ("secret_access_key", "hunter2", "the secret does not belong"),
        ("url", "s3://shoop/dvc", "there is no bucket shoop"),
    ],
)
def test_a_remote_of_dvcs(
    s3_store: Store, repository: Path, setting: str | None, value: str | None, said: str | None
) -> None:
    settings = {
        "url": f"s3://{BUCKET}/dvc",
        "endpointurl": s3_store.server.endpoint,
        "access_key_id": s3_store.owner.key_id,
        "secret_access_key": s3_store.owner.secret,
        "region": "us-east-1",
    }
    if setting is not None:
        settings |= {setting: str(value)}
    lines = ["[core]", "remote = far", "['remote \"far\"']", *(f"{k} = {v}" for k, v in settings.items())]
    (repository / ".dvc").mkdir()
    (repository / ".dvc/config").write_text("\n".join(lines))
    finding = check_remote(repository)
    if said is None:
        assert_finding(finding, OK, f"s3://{BUCKET}")
    else:
        assert_finding(finding, ERROR, said)
    assert "hunter2" not in str(finding)
