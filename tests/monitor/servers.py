"""Prometheus and its alertmanager, started by the scripts of deploy/ on free ports, with rules as fast as a test needs."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.conftest import ROOT
from tests.services import free_port, program

DEPLOY = ROOT / "deploy"
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
SCRAPE_S = 1


def scaled(text: str, factor: float) -> str:
    """PromQL whose windows and offsets are so many times shorter, windows no shorter than five scrapes."""
    at = re.compile(r"(\[|offset )(\d+)(ms|[smhd])\b")

    def shorter(found: re.Match[str]) -> str:
        least_s = 5 * SCRAPE_S if found[1] == "[" else 0
        return found[1] + _shorter(found[2] + found[3], factor, least_s)

    return at.sub(shorter, text)


def _shorter(duration: str, factor: float, least_s: float = 0.001) -> str:
    [(number, unit)] = re.findall(r"^(\d+)(ms|[smhd])$", duration)
    return f"{round(1000 * max(least_s, int(number) * SECONDS[unit] / factor))}ms"


def fast_config(folder: Path, factor: float) -> Path:
    """A copy of deploy/'s configuration where time runs `factor` times faster: windows, `for`, intervals of groups.

    Scrapes and evaluations come every second. Nothing else is changed: expressions, thresholds, counts, labels, routes.
    """
    for name in ("prometheus", "alertmanager"):
        shutil.copytree(DEPLOY / name, folder / name)
    main = folder / "prometheus/prometheus.yml"
    body = yaml.safe_load(main.read_text())
    body["global"] = dict.fromkeys(
        ("scrape_interval", "scrape_timeout", "evaluation_interval"), f"{SCRAPE_S}s"
    )
    main.write_text(yaml.safe_dump(body))
    for path in (folder / "prometheus/rules").glob("*.yml"):
        body = yaml.safe_load(path.read_text())
        for group in body["groups"]:
            if "interval" in group:
                group["interval"] = f"{SCRAPE_S}s"
            for rule in group["rules"]:
                rule["expr"] = scaled(rule["expr"], factor)
                if "for" in rule:
                    rule["for"] = _shorter(rule["for"], factor)
        path.write_text(yaml.safe_dump(body, sort_keys=False))
    path = folder / "alertmanager/alertmanager.yml"
    timed = re.compile(r"((?:group_wait|group_interval|repeat_interval): )(\w+)")
    path.write_text(timed.sub(lambda found: found[1] + _shorter(found[2], factor), path.read_text()))
    return folder


class Watcher:
    """A server of deploy/start, ready when it says so."""

    def __init__(self, script: str, program_name: str, folder: Path, environment: dict[str, str]):
        program(program_name, program_name)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{script}.log"
        given = environment | {"STACK_ADDRESS": "127.0.0.1", f"{script.upper()}_PORT": str(self.port)}
        given |= {f"{script.upper()}_URL": self.url, f"{script.upper()}_DATA": str(folder / script)}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", str(DEPLOY / f"start/{script}.sh")],
                env={"PATH": os.environ["PATH"]} | given,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait(lambda: self._is_ready(), 60)

    def wait(self, holds: Callable[[], Any], timeout_s: float) -> Any:
        """What `holds` gives once it gives something."""
        deadline = time.monotonic() + timeout_s
        while not (found := holds()):
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {self.state()}"
            time.sleep(0.2)
        return found

    def state(self) -> str:
        """For who wants to know why it did not come."""
        return ""

    def get(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(self.url + path, params=parameters, timeout=20, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


class Alertmanager(Watcher):
    """Tells `page` and `ticket` to the addresses of the environment."""

    def __init__(self, config: Path, folder: Path, **environment: str):
        given = {"WATCH_CONFIG": str(config)} | environment
        super().__init__("alertmanager", "prometheus-alertmanager", folder, given)


class Prometheus(Watcher):
    """Scrapes the targets, HOST:PORT each. `past` is OpenMetrics text: what it is to have scraped long ago."""

    def __init__(
        self,
        config: Path,
        folder: Path,
        targets: Sequence[str],
        *,
        alertmanager: str = "127.0.0.1:1",
        key: str = "",
        past: str = "",
    ):
        if past:
            (folder / "past.txt").write_text(past)
            series = folder / "prometheus/series"
            series.mkdir(parents=True)
            command = [program("promtool", "prometheus"), "tsdb", "create-blocks-from", "openmetrics"]
            subprocess.run([*command, str(folder / "past.txt"), str(series)], check=True, capture_output=True)
        given = {
            "WATCH_CONFIG": str(config),
            "PROMETHEUS_RETENTION": "1d",
            "SERVE_TARGETS": ",".join(targets),
            "SERVE_KEY": key,
            "ALERTMANAGER_TARGET": alertmanager,
        }
        super().__init__("prometheus", "prometheus", folder, given)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Series of now."""
        found: list[dict[str, Any]] = self.get("/api/v1/query", query=expr)["data"]["result"]
        return found

    def series(self, expr: str, last_s: float) -> list[dict[str, Any]]:
        """Series of the last seconds, one point a second."""
        now = time.time()
        span = {"start": now - last_s, "end": now, "step": 1}
        found: list[dict[str, Any]] = self.get("/api/v1/query_range", query=expr, **span)["data"]["result"]
        return found

    def state(self) -> str:
        found = self.query('{__name__=~"up|ALERTS|rakuten:.*5m.*|rakuten:queue.*"}')
        return "\n".join(f"{each['metric']} {each['value'][1]}" for each in found)

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        alerts = self.get("/api/v1/alerts")["data"]["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def wait_for(self, *names: str, timeout_s: float) -> None:
        """Until all of them fire."""
        self.wait(lambda: set(names) <= self.firing(), timeout_s)

    def wait_for_end(self, *names: str, timeout_s: float) -> None:
        """Until none of them fires."""
        self.wait(lambda: not set(names) & self.firing(), timeout_s)


class Receiver:
    """A webhook: what alertmanager told it, by receiver and status, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []  # receiver, alert, firing or resolved
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.extend(
                    (self.path.strip("/"), each["labels"]["alertname"], each["status"])
                    for each in body["alerts"]
                )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def watching(
    config: Path, folder: Path, targets: Sequence[str], *, key: str = "", past: str = ""
) -> Iterator[tuple[Prometheus, Receiver]]:
    """Prometheus, which tells an alertmanager, which tells a receiver: pages at /page, tickets at /ticket."""
    receiver = Receiver()
    started: list[Watcher] = []
    try:
        addresses = {f"ALERT_{name.upper()}_WEBHOOK": f"{receiver.url}/{name}" for name in ("page", "ticket")}
        alertmanager = Alertmanager(config, folder, **addresses)
        started.append(alertmanager)
        prometheus = Prometheus(
            config, folder, targets, alertmanager=f"127.0.0.1:{alertmanager.port}", key=key, past=past
        )
        started.append(prometheus)
        yield prometheus, receiver
    finally:
        for each in reversed(started):
            each.stop()
        receiver.stop()
