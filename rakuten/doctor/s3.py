"""S3: what the bucket lets these credentials do, and which of the usual mistakes it is where that is not enough."""

import os
import secrets
from dataclasses import dataclass
from typing import Any

from rakuten.doctor.check import Finding, error, ok, skipped, warning
from rakuten.doctor.network import knock_at
from rakuten.experiment.tracking.journal import without_password

BUCKET = "S3_BUCKET_NAME"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
TIMEOUT_S = 5
_RIGHTS = {"PutObject": "s3:PutObject", "GetObject": "s3:GetObject", "DeleteObject": "s3:DeleteObject"}
_KEYS = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"


@dataclass(frozen=True)
class Bucket:
    """A bucket, and how to speak to it; what is None is what the environment or ~/.aws say."""

    name: str
    endpoint: str | None
    options: dict[str, str]  # of boto3's session
    prefix: str = ""

    @property
    def shown(self) -> str:
        at = f" at {without_password(self.endpoint)}" if self.endpoint else ""
        return f"s3://{self.name}{at}"


def check_s3() -> Finding:
    """Writes, reads and deletes a small object in the bucket that the environment names."""
    name = os.environ.get(BUCKET, "").strip()
    if not name:
        return skipped(f"{BUCKET} is not set")
    endpoint = next((value for each in ENDPOINTS if (value := os.environ.get(each))), None)
    bucket = Bucket(name, endpoint, {})
    return explained(bucket, lambda client: _round_trip(client, bucket))


def check_listing(bucket: Bucket) -> Finding:
    """Reads alone, for a bucket that others fill."""

    def look(client: Any) -> Finding:
        client.list_objects_v2(Bucket=bucket.name, Prefix=bucket.prefix, MaxKeys=1)
        return ok(f"{bucket.shown} answers")

    return explained(bucket, look)


def explained(bucket: Bucket, look: Any) -> Finding:
    """`look(client)`, and what it raises in words that name the setting to mend. No secret gets into them."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    if bucket.endpoint and (problem := knock_at(bucket.endpoint)):
        return error(f"{problem} (S3 endpoint)", f"start it, or mend {ENDPOINTS[0]}")
    config = Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1})
    try:
        client = boto3.Session(**bucket.options).client("s3", endpoint_url=bucket.endpoint, config=config)
        finding: Finding = look(client)
        return finding
    except ClientError as failure:
        return _refused(bucket, failure)
    except (NoCredentialsError, PartialCredentialsError):
        return error(f"no credentials for {bucket.shown}", f"set {' and '.join(_KEYS)} in .env")
    except (BotoCoreError, ValueError) as failure:
        told = without_password(str(failure).splitlines()[0])
        return error(
            f"{bucket.shown}: {told}", f"mend {ENDPOINTS[0]}, AWS_DEFAULT_REGION or {BUCKET} in .env"
        )


def _round_trip(client: Any, bucket: Bucket) -> Finding:
    key, content = f".rakuten-doctor/{secrets.token_hex(8)}", secrets.token_bytes(64)
    client.put_object(Bucket=bucket.name, Key=key, Body=content)
    came_back = client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    client.delete_object(Bucket=bucket.name, Key=key)
    if came_back != content:
        return error(f"{bucket.shown} gives other bytes than it was given", "do not use this store")
    return ok(f"{bucket.shown}: wrote, read and deleted an object")


def _refused(bucket: Bucket, failure: Any) -> Finding:
    details = failure.response.get("Error", {})
    code, operation = str(details.get("Code", "")), failure.operation_name
    if code == "InvalidAccessKeyId":
        return error(f"{bucket.shown} does not know this access key id", f"mend {_KEYS[0]} in .env")
    if code == "SignatureDoesNotMatch":
        return error(
            f"{bucket.shown}: the secret does not belong to this access key id", f"mend {_KEYS[1]} in .env"
        )
    if code in ("NoSuchBucket", "404"):
        return error(f"there is no bucket {bucket.name}", f"mend {BUCKET}, or `aws s3 mb s3://{bucket.name}`")
    if code in ("AccessDenied", "403", "Forbidden"):
        right = _RIGHTS.get(operation, "s3:ListBucket")
        told = error if operation != "DeleteObject" else warning
        return told(
            f"{bucket.shown}: these credentials lack {right}", f"give their user {right} on this bucket"
        )
    if code in ("ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"):
        return error(
            f"{bucket.shown}: {code}", "renew the session's credentials, and see that the clock is right"
        )
    if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
        return error(f"{bucket.shown} is in another region ({code})", "mend AWS_DEFAULT_REGION in .env")
    return error(f"{bucket.shown} refuses {operation}: {code}", "see the store's own log")
