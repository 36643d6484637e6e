"""The challenger in the shadow: compared, never returned, and no trouble to anybody."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakuten.data.preprocess import Product
from rakuten.data.statistics import InputStatistics
from rakuten.monitor.record import PredictionRecord, new_prediction_id
from rakuten.serve.follow.place import Found
from rakuten.serve.loading import loader
from rakuten.serve.served import Served
from rakuten.serve.settings import load_settings
from rakuten.serve.shadow import MOST, Shadow
from tests.serve.bad_bundles import broken, torn
from tests.serve.conftest import Serve
from tests.serve.load import TITLES, expected


@pytest.fixture(scope="module")
def challenger(other_bundle: Path) -> Served:
    return loader(load_settings())(Found("2", "2", "here"), other_bundle)


class Idle:
    """Does anything wait for the champion?"""

    def __init__(self) -> None:
        self.is_idle = True

    def __call__(self) -> bool:
        return self.is_idle


@pytest.fixture
def idle() -> Idle:
    return Idle()


@pytest.fixture
def shadow(challenger: Served, idle: Idle) -> Iterator[Shadow]:
    shadow = Shadow(Path("run-2/bundle"), 1.0, lambda *_: challenger, idle)
    shadow.start()
    while shadow._served is None:
        time.sleep(0.01)
    yield shadow
    shadow.close()


class Written(list[PredictionRecord]):
    """What goes to the log."""

    def __init__(self) -> None:
        super().__init__()
        self._come = threading.Semaphore(0)

    def write(self, record: PredictionRecord) -> None:
        self.append(record)
        self._come.release()

    def wait(self) -> PredictionRecord:
        assert self._come.acquire(timeout=60)
        return self[-1]


def record(prediction_id: str) -> PredictionRecord:
    fields: dict[str, Any] = dict.fromkeys(InputStatistics.__dataclass_fields__)
    return PredictionRecord(
        prediction_id=prediction_id,
        at=0.0,
        model_version="1",
        code=10,
        confidence=0.5,
        probs=np.ones(1, np.float32),
        abstained=False,
        cached=False,
        statistics=InputStatistics(**fields),
    )


def test_its_opinion_goes_to_the_record(shadow: Shadow, challenger: Served) -> None:
    written, name = Written(), new_prediction_id()
    shadow.see(Product("Piscine ronde"), name)
    shadow.add_to(record(name), written.write)
    found = written.wait()
    [answer] = challenger.predictor.predict([Product("Piscine ronde")])
    assert (found.shadow_version, found.shadow_code) == ("2", answer.code)
    assert found.shadow_confidence == pytest.approx(answer.confidence, abs=1e-5)
    assert (found.code, found.model_version, found.prediction_id) == (10, "1", name)


def test_what_it_did_not_see_is_written_at_once(shadow: Shadow) -> None:
    written = Written()
    shadow.add_to(record(new_prediction_id()), written.write)
    assert written[0].shadow_version is None


def test_it_gives_way_to_the_champion(shadow: Shadow, idle: Idle) -> None:
    idle.is_idle = False
    written, names = Written(), [new_prediction_id() for _ in range(3 * MOST)]
    started = time.monotonic()
    for name in names:
        shadow.see(Product("Piscine"), name)
        shadow.add_to(record(name), written.write)
    assert time.monotonic() - started < 1, "nobody waits for it"
    assert len(written) >= len(names) - MOST - 1, "more than a few are not kept for it"
    for _ in names:
        written.wait()
    assert {each.shadow_version for each in written} == {None}
    assert sorted(each.prediction_id for each in written) == sorted(names)


def test_a_product_that_it_cannot_read_is_no_trouble(shadow: Shadow) -> None:
    written, name = Written(), new_prediction_id()
    shadow.see(Product(image=object()), name)  # type: ignore[arg-type]
    shadow.add_to(record(name), written.write)
    assert written.wait().shadow_version is None
    name = new_prediction_id()
    shadow.see(Product("Piscine"), name)
    shadow.add_to(record(name), written.write)
    assert written.wait().shadow_version == "2", "it goes on"


def test_it_sees_a_share(challenger: Served, idle: Idle) -> None:
    shadow = Shadow(Path("run-2/bundle"), 0.25, lambda *_: challenger, idle)
    shadow._served = challenger
    seen = 0
    for _ in range(4000):
        name = new_prediction_id()
        shadow._waiting.clear()
        shadow.see(Product("Piscine"), name)
        seen += len(shadow._waiting)
    assert 850 < seen < 1150, "five standard deviations around a thousand"


@pytest.mark.slow
def test_a_service_with_a_shadow_answers_as_without(serve: Serve, bundle: Path, other_bundle: Path) -> None:
    service = serve(shadow=other_bundle, shadow_share=1.0, cache_size=0)
    service.wait(lambda: "sees 100 % of the requests" in service.said)
    right = expected({"1": bundle, "2": other_bundle})
    with service.client() as client:
        for title in TITLES:
            said = client.post("/predict", json={"designation": title}).json()
            assert said["model_version"] == "1"
            assert said["predicted_prdtypecode"] == right["1", title][0]
            assert said["confidence"] == pytest.approx(right["1", title][1], abs=1e-5)
    assert service.terminate() == 0
    with sqlite3.connect(service.outputs / "inference.db") as database:
        rows = database.execute(
            "select code, shadow_version, shadow_code from rakuten_predictions where shadow_version is not null"
        ).fetchall()
    assert len(rows) > len(TITLES) / 2
    assert {version for _, version, _ in rows} == {other_bundle.parent.name}
    agree = {int(a == b) for a, _, b in rows}
    assert agree == {int(right["1", title][0] == right["2", title][0]) for title in TITLES}


@pytest.mark.slow
def test_a_bad_shadow_changes_nothing(serve: Serve, other_bundle: Path, tmp_path: Path) -> None:
    service = serve(shadow=broken(other_bundle, tmp_path / "bad/bundle", torn), shadow_share=1.0)
    service.wait(lambda: "is refused" in service.said)
    with service.client() as client:
        assert client.post("/predict", json={"designation": "Piscine"}).status_code == 200
    assert service.said.count("the shadow ") == 1
