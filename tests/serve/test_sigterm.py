"""The end of the service: not ready any more, what is in flight answered, the log flushed, exit code 0."""

import asyncio
import os
import signal
import socket
import sqlite3
import time
from collections import Counter

import psutil
import pytest

from tests.serve.conftest import Serve
from tests.serve.load import crowd
from tests.serve.process import Service

# As much at once as a test wants, and all of it answered, however long that takes.
CALM = {"latency_target_ms": 600_000, "cache_size": 0, "limits__connections": 4000, "limits__answer_s": 120}


def logged(service: Service) -> int:
    with sqlite3.connect(service.outputs / "inference.db") as database:
        [table] = [
            name
            for (name,) in database.execute("select name from sqlite_master where type = 'table'")
            if "prediction" in name
        ]
        return int(database.execute(f"select count(*) from {table}").fetchone()[0])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_thousand_requests_in_flight_are_answered_and_logged(serve: Serve, workers: int) -> None:
    service = serve(workers=workers, drain_s=6, **CALM)  # a busy machine takes a while to connect a thousand
    left: list[int] = []

    def end(still: int) -> None:
        left.append(still)
        service.process.send_signal(signal.SIGTERM)

    answers = asyncio.run(crowd(service.url, 1000, end, after=20))
    assert Counter(each.status for each in answers) == {200: 1000}
    assert left[0] >= 900, "the signal came while they were in flight"
    assert service.process.wait(60) == 0
    assert not psutil.pid_exists(service.process.pid)
    assert logged(service) == 1000
    assert "Traceback" not in service.said


@pytest.mark.slow
def test_it_is_not_ready_and_still_answers_while_it_drains(serve: Serve) -> None:
    service = serve(drain_s=3)
    with service.client() as client:
        client.get("/readyz")
        service.process.send_signal(signal.SIGTERM)
        service.wait(lambda: service.status("/readyz") == 503)
        assert service.status("/livez") == 200
        answer = client.post("/predict", json={"designation": "Piscine"})
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close", "the next request goes elsewhere"
    assert service.process.wait(60) == 0
    assert service.status("/livez") is None


def hang(service: Service) -> socket.socket:
    """A request whose body does not come."""
    connection = socket.create_connection(("127.0.0.1", service.port))
    head = (
        "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    connection.sendall(head.encode())
    time.sleep(0.5)
    return connection


@pytest.mark.slow
def test_what_never_ends_is_given_up(serve: Serve) -> None:
    service = serve(drain_s=0, graceful_s=2, limits__receive_s=300, limits__answer_s=300)
    with hang(service):
        started = time.monotonic()
        assert service.terminate() == 0
        assert time.monotonic() - started < 100, "long before the request's own time is over"
    assert "1 requests were not answered within 2 s" in service.said


@pytest.mark.slow
def test_the_same_signal_twice_ends_it_at_once(serve: Serve) -> None:
    service = serve(drain_s=0, graceful_s=300, limits__receive_s=300, limits__answer_s=300)
    with hang(service):
        [worker] = service.workers
        service.process.send_signal(signal.SIGTERM)
        service.wait(lambda: "asked to end:" in service.said)
        time.sleep(1)
        assert service.process.poll() is None, "it waits for what is in flight"
        worker.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0
    assert "asked to end once more" in service.said


@pytest.mark.slow
def test_ctrl_c_is_a_calm_end_too(serve: Serve) -> None:
    """A terminal's goes to all processes of the group; the supervisor sends its own to the workers besides."""
    service = serve(drain_s=3, **CALM)
    answers = asyncio.run(
        crowd(service.url, 300, lambda _: os.killpg(service.process.pid, signal.SIGINT), after=10)
    )
    assert Counter(each.status for each in answers) == {200: 300}
    assert service.process.wait(60) == 0
    assert "given up" not in service.said


@pytest.mark.slow
def test_a_worker_that_is_killed_comes_back_and_the_other_answers_meanwhile(serve: Serve) -> None:
    service = serve(workers=2)
    service.wait(lambda: len(service.workers) == 2 and service.said.count("version 1 answers") == 2)
    first, second = service.workers
    first.kill()
    with service.client() as client:
        for number in range(50):
            answer = client.post(
                "/predict", json={"designation": f"Piscine {number}"}, headers={"Connection": "close"}
            )
            assert answer.status_code == 200
    service.wait(lambda: service.said.count("version 1 answers") == 3)
    assert second in service.workers
    assert len(service.workers) == 2
