"""Ports: free, answered by what belongs there, or taken by something else, which is named."""

import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from rakuten.doctor import ports
from rakuten.doctor.check import Severity
from rakuten.doctor.ports import check_port
from tests.doctor.conftest import assert_finding
from tests.services import free_port


class _Prometheus(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"Prometheus Server is Healthy.\n" if self.path == "/-/healthy" else b"nothing"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[int]:
    """The port of a server that answers as Prometheus does."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Prometheus) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_free_port() -> None:
    assert_finding(check_port(free_port()), Severity.OK, "free")


def test_a_program_of_this_project(answering: int) -> None:
    assert_finding(check_port(answering), Severity.OK, "Prometheus answers")


def test_a_program_that_belongs_elsewhere(answering: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ports.EXPECTED, answering, "MLflow")
    me = Path("/proc/self/comm").read_text().strip()
    assert_finding(
        check_port(answering),
        Severity.WARNING,
        f"taken by {me} (process {os.getpid()}), which is not MLflow",
        cure="give MLflow another port",
    )


def test_something_else_entirely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        finding = check_port(mute.getsockname()[1])
    assert_finding(finding, Severity.WARNING, f"process {os.getpid()}", "not of this stack")
