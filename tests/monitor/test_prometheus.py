"""Prometheus takes its configuration, reads what the service shows, and is told where that is by the environment."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.monitor.rules import PROMETHEUS, RULES, recorded, rules, unknown_series
from tests.monitor.servers import Prometheus, fast_config
from tests.services import program


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program("promtool", "prometheus"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_promtool_accepts_configuration_and_rules(tmp_path: Path) -> None:
    config = shutil.copytree(PROMETHEUS, tmp_path / "config")
    (config / "service.key").touch()
    done = promtool("check", "config", config / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    done = promtool("check", "rules", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_read_series_that_somebody_makes() -> None:
    assert len(recorded()) > 20
    assert {rule.get("alert") or rule["record"]: unknown_series(rule["expr"]) for rule in rules()} == {
        rule.get("alert") or rule["record"]: set() for rule in rules()
    }
    assert unknown_series("rakuten_no_such_total + rakuten:nothing:1h + rakuten_queue_products") == {
        "rakuten_no_such_total",
        "rakuten:nothing:1h",
    }


@pytest.fixture
def guarded() -> Iterator[tuple[str, list[str]]]:
    """The address of a service that shows its figures for a key alone, and what it was asked with."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization", ""))
            self.send_response(200 if asked[-1] == "Bearer a+/b" else 401)
            self.send_header("Content-Type", "text/plain; version=1.0.0; charset=utf-8")
            self.end_headers()
            self.wfile.write(b"rakuten_ready_workers 1\n")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_targets_and_key_come_from_the_environment(tmp_path: Path, guarded: tuple[str, list[str]]) -> None:
    address, asked = guarded
    config = fast_config(tmp_path / "deploy", factor=60)
    prometheus = Prometheus(config, tmp_path, [address, "127.0.0.1:9"], key="a+/b")
    try:
        prometheus.wait(lambda: prometheus.query("rakuten_ready_workers == 1"), 30)
        prometheus.wait(lambda: len(prometheus.query("up")) == 4, 30)
        up = {each["metric"]["instance"]: each["value"][1] for each in prometheus.query('up{job="rakuten"}')}
        assert up == {address: "1", "127.0.0.1:9": "0"}
        assert set(asked) == {"Bearer a+/b"}
        groups = prometheus.get("/api/v1/rules")["data"]["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
        [key] = tmp_path.glob("prometheus/config/service.key")
        assert key.stat().st_mode & 0o077 == 0
    finally:
        prometheus.stop()


def test_a_test_s_time_runs_faster_and_nothing_else_is_changed(tmp_path: Path) -> None:
    fast = fast_config(tmp_path / "deploy", factor=60)
    durations = re.compile(r"\b\d+(?:ms|[smhd])\b")
    for path in RULES:
        theirs = (fast / "prometheus/rules" / path.name).read_text()
        assert durations.findall(theirs), path
        assert not re.findall(r"\[\d+[mhd]\]", theirs)
    import yaml

    for ours, made in zip(RULES, sorted((fast / "prometheus/rules").glob("*.yml")), strict=True):
        groups = [yaml.safe_load(path.read_text())["groups"] for path in (ours, made)]
        plain = [durations.sub("T", json.dumps(each).replace("offset ", "offset ")) for each in groups]
        assert plain[0] == plain[1]
