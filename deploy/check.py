"""`make stack-check`: does each part of the stack do what it is there for? The same for containers and for `make stack`."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen
from uuid import uuid4

import boto3
import psycopg
from botocore.config import Config

from deploy import settings
from rakuten.console import people
from rakuten.errors import RakutenError


def postgres() -> str:
    with psycopg.connect(connect_timeout=5) as connection:
        connection.execute("select 1")
    return f"select 1 as {os.environ['PGUSER']} on {os.environ['PGHOST']}:{os.environ['PGPORT']}"


def bucket() -> Any:
    return boto3.client("s3", config=Config(connect_timeout=5, retries={"total_max_attempts": 2}))


def s3() -> str:
    client, where = bucket(), {"Bucket": os.environ["S3_BUCKET_NAME"], "Key": f"stack-check/{uuid4().hex}"}
    client.put_object(**where, Body=b"here")
    said = client.get_object(**where)["Body"].read()
    client.delete_object(**where)
    if said != b"here":
        raise RuntimeError(f"put b'here', got {said!r}")
    return f"put, got and deleted an object in {where['Bucket']} on {client.meta.endpoint_url}"


def mlflow() -> str:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    urlopen(
        f"{uri}/health", timeout=5
    ).close()  # at once, where nothing answers: what follows takes seconds to import
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    known = client.get_experiment_by_name("stack-check")
    experiment = known.experiment_id if known else client.create_experiment("stack-check")
    run_id = client.create_run(experiment).info.run_id
    try:
        client.log_metric(run_id, "answer", 42)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "answer.txt").write_text("42")
            client.log_artifact(run_id, f"{folder}/answer.txt")
        found(experiment, run_id)
    finally:
        # Into MLflow's bin, and no further: `mlflow gc` would empty it of what others threw away as well.
        client.delete_run(run_id)
    return f"a run through {uri}: its metric was in the database, its file in the bucket"


def found(experiment: str, run_id: str) -> None:
    """Look for the run where it is kept, and not through the server; take its file out of the bucket."""
    client, where = bucket(), {"Bucket": os.environ["S3_BUCKET_NAME"]}
    listed = client.list_objects_v2(**where, Prefix=f"mlflow/{experiment}/{run_id}/")
    keys = [each["Key"] for each in listed.get("Contents", [])]
    with psycopg.connect(connect_timeout=5) as connection:
        rows = connection.execute("select value from metrics where run_uuid = %s", (run_id,)).fetchall()
    for key in keys:
        client.delete_object(**where, Key=key)
    if len(keys) != 1 or rows != [(42,)]:
        raise RuntimeError(f"logged a metric and a file: the database has {rows}, the bucket {keys}")


def serve() -> str:
    health = f"http://{settings.host()}:{os.environ['SERVE_PORT']}/health"
    try:
        with urlopen(health, timeout=5) as answer:
            return f"version {json.load(answer)['model_version']} answers"
    except HTTPError as error:
        raise RuntimeError(json.load(error).get("detail", error)) from error


def asked(variable: str, path: str) -> Any:
    """What a part of the profile `watch` says in JSON."""
    with urlopen(f"http://{settings.host()}:{os.environ[variable]}{path}", timeout=5) as answer:
        return json.load(answer)


def prometheus() -> str:
    groups = asked("PROMETHEUS_PORT", "/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    if not rules or (wrong := [rule["name"] for rule in rules if rule["health"] == "err"]):
        raise RuntimeError(f"{len(rules)} rules, of which these fail: {wrong if rules else 'all'}")
    alertmanagers = asked("PROMETHEUS_PORT", "/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
    if not alertmanagers:
        raise RuntimeError("it knows no alertmanager: whatever it finds, nobody is told")
    targets = asked("PROMETHEUS_PORT", "/api/v1/targets?state=active")["data"]["activeTargets"]
    told = ", ".join(
        f"{each['labels']['job']} at {each['labels']['instance']} {each['health']}" for each in targets
    )
    return f"{len(rules)} rules; {told}"  # a service that is down is for its alerts to tell


def alertmanager() -> str:
    asked("ALERTMANAGER_PORT", "/api/v2/status")
    receivers = [each["name"] for each in asked("ALERTMANAGER_PORT", "/api/v2/receivers")]
    return f"tells {', '.join(receivers)}"


def grafana() -> str:
    try:
        return f"version {asked('GRAFANA_PORT', '/api/health')['version']}"
    except URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return "not here: it runs in its container alone"
        raise


PARTS: dict[str, Callable[[], str]] = {"PostgreSQL": postgres, "S3": s3, "MLflow": mlflow}
SERVE: dict[str, Callable[[], str]] = {"Service": serve}
WATCH: dict[str, Callable[[], str]] = {
    "Prometheus": prometheus,
    "Alertmanager": alertmanager,
    "Grafana": grafana,
}


def main() -> int:
    settings.load()
    os.environ |= settings.libpq() | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    failed = 0
    chosen = PARTS | (SERVE if settings.has("serve") else {}) | (WATCH if settings.has("watch") else {})
    for name, part in chosen.items():
        start = time.monotonic()
        try:
            said, sign = part(), "ok"
        except Exception as error:  # whatever it is, the next part is looked at too
            said, sign, failed = " ".join(f"{type(error).__name__}: {error}".split()), "FAILED", 1
        line = f"{name:<14}{sign:<8}{said} ({time.monotonic() - start:.1f} s)"
        people().print(line, markup=False, soft_wrap=True)
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RakutenError as error:
        sys.exit(str(error))
