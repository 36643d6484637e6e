"""A new champion under load: nothing is lost, no answer mixes two models, nobody is sent back to the old one."""

import asyncio
import json
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.serve.bad_bundles import BAD, broken, torn
from tests.serve.conftest import Serve, StartIn
from tests.serve.load import Answered, expected, queue_of_clients
from tests.serve.process import promote

CALM = {"latency_target_ms": 600_000, "limits__connections": 4000}


def check(answers: list[Answered], bundles: dict[str, Path]) -> None:
    """None is lost, and each is its own version's."""
    assert Counter(each.status for each in answers) == {200: len(answers)}
    right = expected(bundles)
    for each in answers:
        code, confidence = right[each.version, each.title]
        assert each.body["predicted_prdtypecode"] == code
        assert each.body["confidence"] == pytest.approx(confidence, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_swap_under_load(serve: Serve, bundle: Path, other_bundle: Path, workers: int) -> None:
    poll_s = 4
    service = serve(workers=workers, poll_s=poll_s, cache_size=10_000, **CALM)
    service.wait(lambda: service.said.count("version 1 answers") == workers)
    published: list[float] = []

    def enough(answers: list[Answered]) -> bool:
        if len(answers) > 300 and not published:
            published.append(time.monotonic())
            promote(service.outputs, other_bundle, "2")
        return sum(each.status != 200 or each.version == "2" for each in answers) > 700

    seen = asyncio.run(queue_of_clients(service.url, 8, enough))
    answers = [each for client in seen for each in client]
    assert len(answers) >= 1000
    check(answers, {"1": bundle, "2": other_bundle})

    first_new = min(each.received for each in answers if each.version == "2")
    last_old = max(each.sent for each in answers if each.version == "1")
    window_s = max(0.0, last_old - first_new)
    print(f"{workers} workers: from the first new answer to the last old question {1000 * window_s:.0f} ms")
    assert window_s < poll_s / 8, "each would have looked at a time of its own, up to poll_s apart"
    for client in seen:
        versions = [each.version for each in client if each.sent > first_new + window_s]
        assert set(versions) <= {"2"}, "once all have swapped"
    assert service.said.count("version 2 answers, after 1") == workers


@pytest.mark.slow
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.acceptance), 2])
def test_bad_ones_between_good_ones_under_load(
    serve: Serve, bundle: Path, other_bundle: Path, tmp_path: Path, workers: int
) -> None:
    service = serve(workers=workers, poll_s=0.2, **CALM)
    service.wait(lambda: service.said.count("version 1 answers") == workers)
    bad = broken(bundle, tmp_path / "bad", torn)
    pointer = service.outputs / "champion.json"

    def refused() -> int:
        return service.said.count("version 2 of outputs/champion.json is refused, version 1 goes on")

    def enough(answers: list[Answered]) -> bool:
        body = json.loads(pointer.read_text())
        if len(answers) > 100 and body["version"] == "1":
            pointer.write_text(json.dumps(body | {"version": "2", "bundle": str(bad)}))
        if refused() == workers and body["version"] == "2":
            promote(service.outputs, other_bundle, "3")
        return sum(each.status != 200 or each.version == "3" for each in answers) > 100

    seen = asyncio.run(queue_of_clients(service.url, 4, enough))
    check([each for client in seen for each in client], {"1": bundle, "3": other_bundle})
    assert refused() == workers, "told once, by each worker"
    assert len(service.workers) == workers
    with service.client() as client:
        counted = client.get("/metrics").text
    assert f'rakuten_model_swaps_total{{outcome="refused"}} {float(workers)}' in counted


@pytest.mark.slow
def test_without_a_champion_it_lives_and_heals(start_in: StartIn, house: Path, bundle: Path) -> None:
    service = start_in(house, poll_s=0.2).wait_until_alive()
    with service.client() as client:
        for path in ("/readyz", "/health"):
            answer = client.get(path)
            assert (path, answer.status_code) == (path, 503)
        answer = client.post("/predict", json={"designation": "Piscine"})
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert "there is no champion at outputs/champion.json" in answer.json()["detail"]
        assert client.get("/livez").status_code == 200
        promote(service.outputs, bundle, "1")
        service.wait_until_ready()
        assert client.get("/health").json()["model_version"] == "1"


@pytest.mark.slow
def test_a_bad_one_at_the_start_is_told_and_mended(
    start_in: StartIn, house: Path, bundle: Path, tmp_path: Path
) -> None:
    good = shutil.copytree(bundle, tmp_path / "good")
    pointer = promote(house / "outputs", good, "1")
    shutil.rmtree(good)
    broken(bundle, good, torn)
    service = start_in(house, poll_s=0.2).wait_until_alive()
    assert service.status("/readyz") == 503
    with service.client() as client:
        assert BAD[torn] in client.get("/health").json()["detail"]
    assert service.said.count("version 1 of outputs/champion.json is refused, nothing answers") == 1
    shutil.rmtree(good)
    shutil.copytree(bundle, good)
    promote(pointer.parent, good, "1")
    service.wait_until_ready()


@pytest.mark.slow
def test_sighup_has_it_look_at_once(serve: Serve, other_bundle: Path) -> None:
    service = serve(poll_s=3600)
    promote(service.outputs, other_bundle, "2")
    [worker] = service.workers
    worker.send_signal(signal.SIGHUP)
    service.wait(lambda: "version 2 answers, after 1" in service.said)
    assert service.workers == [worker]


@pytest.mark.slow
def test_sighup_to_the_supervisor_renews_the_workers_and_loses_nothing(
    serve: Serve, bundle: Path, other_bundle: Path
) -> None:
    service = serve(poll_s=3600, drain_s=1, **CALM)
    [old] = service.workers
    asked: list[bool] = []

    def enough(answers: list[Answered]) -> bool:
        if len(answers) > 50 and not asked:
            asked.append(True)
            promote(service.outputs, other_bundle, "2")
            service.process.send_signal(signal.SIGHUP)
        return sum(each.status != 200 or each.version == "2" for each in answers) > 50

    seen = asyncio.run(queue_of_clients(service.url, 2, enough))
    check([each for client in seen for each in client], {"1": bundle, "2": other_bundle})
    service.wait(lambda: service.workers and old not in service.workers)
