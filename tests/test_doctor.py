"""The doctor as people and machines meet it: lines, JSON, exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rakuten.cli import compose
from rakuten.config import DoctorConfig
from rakuten.doctor import examination
from rakuten.doctor.check import Check, Finding, Report, error, ok, skipped, warning
from rakuten.doctor.examination import checks, examine
from rakuten.experiment.tracking.store import open_store
from tests.conftest import ROOT
from tests.services import free_port, mlflow_server

FINDINGS = [
    ok("yes"),
    skipped("not here", "bring one"),
    warning("not quite", "mend it"),
    error("no", "see there"),
]


def doctor(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MLFLOW_", "POSTGRES_", "S3_"))}
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/doctor.py"), *arguments],
        cwd=folder,
        env=kept | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def stand_in(monkeypatch: pytest.MonkeyPatch, findings: list[Finding]) -> None:
    """Checks that find just this."""
    asked = [Check(f"number {number}", lambda each=each: each) for number, each in enumerate(findings)]  # type: ignore[misc]
    monkeypatch.setattr(examination, "checks", lambda config, folder: asked)


@pytest.mark.parametrize(("worst", "code"), [(1, 0), (2, 0), (3, 10), (4, 20)])
def test_the_worst_finding_decides(monkeypatch: pytest.MonkeyPatch, worst: int, code: int) -> None:
    stand_in(monkeypatch, FINDINGS[:worst])
    assert examine(compose("doctor", [], DoctorConfig), Console(quiet=True)) == Report(code)


def test_a_line_a_check_and_a_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, FINDINGS)
    examine(compose("doctor", [], DoctorConfig), Console(file=sys.stdout))
    assert capsys.readouterr().out.splitlines() == [
        "ok      number 0  yes",
        "skipped number 1  not here",
        "                  fix: bring one",
        "warning number 2  not quite",
        "                  fix: mend it",
        "error   number 3  no",
        "                  fix: see there",
        "1 ok, 1 skipped, 1 warning, 1 error",
    ]


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in(monkeypatch, FINDINGS)
    report = examine(compose("doctor", ["json=true"], DoctorConfig), Console(file=sys.stdout))
    assert report.exit_code == 20
    assert capsys.readouterr().out == ""
    assert json.loads(str(report.text))[0::3] == [
        {"check": "number 0", "severity": "ok", "found": "yes", "cure": None},
        {"check": "number 3", "severity": "error", "found": "no", "cure": "see there"},
    ]


def test_what_is_asked_follows_the_config() -> None:
    plain = [check.name for check in checks(compose("doctor", [], DoctorConfig))]
    assert {"port 3000", "port 8000", "port 5000", "port 9090", "port 3001"} <= set(plain)
    assert len(set(plain)) == len(plain)
    changes = ["ports=[81]", "sweep_storage=postgresql://a@b/c", "tracking.uri=postgresql+psycopg://a@b/d"]
    changed = [check.name for check in checks(compose("doctor", changes, DoctorConfig))]
    assert set(changed) - set(plain) == {"port 81", "PostgreSQL of sweeps", "PostgreSQL of tracking"}


@pytest.mark.slow
def test_help() -> None:
    done = doctor(ROOT, "--help")
    assert done.returncode == 0
    assert "0 all is well, 10 warnings, 20 errors" in " ".join(done.stdout.split())
    assert re.search(r"deliver=false +true brings", done.stdout)


@pytest.mark.slow
def test_a_fresh_folder_is_well(tmp_path: Path) -> None:
    done = doctor(tmp_path, "ports=[]")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert re.search(r"\d+ ok, \d+ skipped, 0 warning, 0 error\n$", done.stderr)


@pytest.mark.slow
def test_what_is_wrong_is_told_to_machines(tmp_path: Path) -> None:
    """Through .env, as people configure it; no secret comes out."""
    port = free_port()
    lines = {
        "S3_BUCKET_NAME": "shop",
        "AWS_ACCESS_KEY_ID": "AKIASHOP",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": str(port),
        "POSTGRES_USER": "shop",
        "POSTGRES_PASSWORD": "hunter3",
        "MLFLOW_TRACKING_URI": f"http://shop:hunter4@127.0.0.1:{port}",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    (tmp_path / ".env").chmod(0o644)
    done = doctor(tmp_path, "ports=[]", "json=true", "tracking=server", "data=rakuten")
    assert done.returncode == 20
    assert done.stderr == ""
    rows: dict[str, Any] = {row["check"]: row for row in json.loads(done.stdout)}
    bad = {name for name, row in rows.items() if row["severity"] in ("warning", "error")}
    assert bad == {"catalogue", ".env rights", "MLflow", "S3", "PostgreSQL"}
    assert all(rows[name]["cure"] for name in bad)
    assert "hunter" not in done.stdout


CUT_OFF = """
import os, signal, sys
from pathlib import Path
from rakuten.config import TrackingConfig
from rakuten.experiment.tracking.delivery import start_run
config = TrackingConfig(kind="mlflow", uri=sys.argv[1], artifact_root=None, experiment="rakuten")
run = start_run(config, "x", {}, Path("outputs/x/checkpoints/tracking.jsonl"))
run.log_metrics({"val/f1": 0.5})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.acceptance  # test_outages has the doctor deliver what S3 missed
def test_deliver_after_an_outage(tmp_path: Path) -> None:
    """A run said something while MLflow was away, and its process is gone."""
    with mlflow_server(tmp_path / "server") as server:
        server.kill()
        subprocess.run([sys.executable, "-c", CUT_OFF, server.uri], cwd=tmp_path, check=False)
        arguments = ["deliver=true", "json=true", "tracking=server"]
        away = doctor(tmp_path, *arguments, MLFLOW_TRACKING_URI=server.uri)
        left = ["outputs/x/checkpoints/tracking.jsonl"]
        assert (away.returncode, json.loads(away.stdout)) == (10, {"delivered": 0, "left": left}), away.stderr
        assert "0 journals delivered, 1 left" in away.stderr
        server.start()
        back = doctor(tmp_path, *arguments, MLFLOW_TRACKING_URI=server.uri)
        assert (back.returncode, json.loads(back.stdout)) == (0, {"delivered": 1, "left": []}), back.stderr
        client, experiment_id = open_store(server.config)
        (run,) = client.search_runs([experiment_id])
        assert (run.data.metrics["val/f1"], run.info.status) == (0.5, "KILLED")
