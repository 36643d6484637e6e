"""A served model, a real Prometheus and its alertmanager: faults are planted, told to whoever is on call, and over.

Time runs 60 times faster in the rules (`fast_config`): what takes five minutes takes five seconds. What cannot be planted
within a test (a baseline of a week, a day without a job, a rule that fails) fires in deploy/prometheus/tests alone.
"""

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from rakuten.monitor.database import Database
from rakuten.monitor.findings import DRIFT, Finding, publish
from rakuten.monitor.job import EXIT_CODES
from tests.monitor.faults import Flood, Shop, one_class, torn, week_before
from tests.monitor.servers import Prometheus, Receiver, fast_config, scaled, watching
from tests.monitor.test_dashboards import DASHBOARDS, queries
from tests.monitor.test_metrics import REPORT
from tests.monitor.traffic import Desk, Trained
from tests.serve.process import Service, house, promote
from tests.services import Door, postgres

pytestmark = pytest.mark.acceptance

FACTOR = 60
PATIENCE_S = 120  # of a busy machine
KEYS = {name: f"the key of {name}" for name in ("shop", "depot", "prometheus")}
SETTINGS = {
    "api_keys": ",".join(f"{name}:{hashlib.sha256(key.encode()).hexdigest()}" for name, key in KEYS.items()),
    "rate_limit": 30,
    "rate_burst": 30,
    "latency_target_ms": 700,  # more than the alert looks at: the queue may grow, and answers be slow
    "batch_size": 1,  # so little is too much, and
    "runners": 1,
    "runtime": "torch",
    "poll_s": 0.5,
}


@dataclass
class Scene:
    """All that runs."""

    service: Service
    prometheus: Prometheus
    receiver: Receiver
    door: Door  # between the service and its database
    database_url: str
    trained: Trained
    one_class: Path  # a broken model, and the challenger

    def publish(self, version: str, bundle: Path) -> None:
        promote(self.service.outputs, bundle, version)

    @contextmanager
    def fault(self, *names: str, told: bool = True) -> Iterator[None]:
        """Around what mends it: all of these fire before, and are over after. Whoever is on call hears of both."""
        prometheus = self.prometheus
        prometheus.wait_for(*names, timeout_s=PATIENCE_S)
        if told:
            self.hears(*names, status="firing")
        yield
        prometheus.wait_for_end(*names, timeout_s=PATIENCE_S)
        if told:
            self.hears(*names, status="resolved")

    @contextmanager
    def away(self) -> Iterator[None]:
        self.service.kill()
        yield

    def hears(self, *names: str, status: str) -> None:
        wanted = {(name, status) for name in names}
        self.prometheus.wait(lambda: wanted <= {each[1:] for each in self.receiver.told}, PATIENCE_S)


@pytest.fixture
def scene(trained: Trained, tmp_path: Path) -> Iterator[Scene]:
    """A service without a champion, and those who watch it."""
    config = fast_config(tmp_path / "deploy", FACTOR)
    with postgres(tmp_path / "database") as database:
        door = Door(f"http://127.0.0.1:{database.port}")
        door.open()
        url = database.url.replace(str(database.port), door.endpoint.rpartition(":")[2])
        challenger = one_class(trained.bundle, tmp_path / "one-class", 10)
        shadow = {"shadow": challenger, "shadow_share": 1}
        service = Service(house(tmp_path / "house"), log=url, **shadow, **SETTINGS)
        try:
            targets = [f"127.0.0.1:{service.port}"]
            with watching(config, tmp_path, targets, key=KEYS["prometheus"], past=week_before()) as watchers:
                service.wait_until_alive()
                yield Scene(service, *watchers, door, database.url, trained, challenger)
        finally:
            service.kill()
            door.shut()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_faults_are_told_and_over_and_every_panel_shows_something(scene: Scene, tmp_path: Path) -> None:
    no_champion(scene)
    shop = Shop(scene.service.url, scene.trained, KEYS["shop"])
    try:
        bad_champion(scene, tmp_path)
        database_away(scene)
        job = Desk(scene.service.folder, scene.trained).start(
            *(f"log={scene.database_url}", f"bundle={scene.trained.bundle}", "version=4"),
            *("window_products=100", "evidently_dir=null"),
        )
        broken_model(scene)
        said = job.communicate(timeout=PATIENCE_S)
        assert job.returncode in EXIT_CODES.values(), said
        drift(scene)
        flood(scene)
        too_large(scene)
        panels(scene)
    finally:
        shop.close()
    killed(scene)
    severities = {name: receiver for receiver, name, _ in scene.receiver.told}
    assert {name for name, each in severities.items() if each == "page"} >= {"ServiceDown", "Collapse"}
    assert {name for name, each in severities.items() if each == "ticket"} >= {"SwapRefused", "Drift"}


def no_champion(scene: Scene) -> None:
    with scene.fault("ServiceNotReady"):
        scene.publish("1", scene.trained.bundle)


def bad_champion(scene: Scene, folder: Path) -> None:
    good = scene.trained.bundle
    damaged = torn(good, folder / "torn")
    scene.publish("2", good)
    pointer = scene.service.outputs / "champion.json"
    pointer.write_text(pointer.read_text().replace(str(good), str(damaged)).replace('"2"', '"3"'))
    with scene.fault("SwapRefused"):
        scene.publish("4", good)


def database_away(scene: Scene) -> None:
    scene.door.shut()
    with scene.fault("LogDatabaseAway"):
        scene.door.open()


def broken_model(scene: Scene) -> None:
    scene.publish("5", scene.one_class)
    with scene.fault("Collapse"):
        scene.publish("6", scene.trained.bundle)


def drift(scene: Scene) -> None:
    """What the job found is shown, whatever it was; then what it would have found."""
    prometheus = scene.prometheus
    prometheus.wait(lambda: prometheus.query("rakuten_drift_last_run_timestamp_seconds > 0"), PATIENCE_S)
    database = Database(scene.database_url)
    low = {"estimated_accuracy": {"value": 0.7, "low": 0.65, "high": 0.75}}
    names = ("Drift", "EstimatedAccuracyLow")
    say(database, REPORT | low, "drift", "alarm")
    with scene.fault(*names):
        say(database, REPORT, "none", "none")
    database.close()


def say(database: Database, report: dict[str, object], kind: str, severity: str) -> None:
    body = {"report": report, "decision": {"kind": kind, "severity": severity}}
    publish(database, Finding(DRIFT, time.time(), body))


def flood(scene: Scene) -> None:
    """What is told is the cause, and the page; what it brings with it fires unheard."""
    too_much = Flood(scene.service.url, KEYS["depot"])
    try:
        with (
            scene.fault("Overloaded", "ErrorBudgetBurnFast", "RateLimited"),
            scene.fault("LatencyHigh", "QueueGrowing", told=False),
        ):
            too_much.close()
    finally:
        too_much.close()
    assert set(too_much.statuses) <= {200, 429, 503}


def too_large(scene: Scene) -> None:
    """A limit of what a request may be: counted, and no reason to call anybody."""
    keyed = {"Authorization": f"Bearer {KEYS['shop']}"}
    answer = httpx.post(
        f"{scene.service.url}/predict", headers=keyed, content=b" " * 40_000_000, timeout=60, trust_env=False
    )
    assert answer.status_code == 413
    scene.prometheus.wait(lambda: scene.prometheus.query("rakuten_rejected_total > 0"), PATIENCE_S)


def panels(scene: Scene) -> None:
    """Each query of each panel of each dashboard, as Grafana would send it, over the test's time."""
    empty = []
    for name, dashboard in DASHBOARDS.items():
        for panel, expr in queries(dashboard).items():
            found = scene.prometheus.series(scaled(expr, FACTOR), last_s=600)
            values = [float(value) for each in found for _, value in each["values"]]
            if not any(math.isfinite(value) for value in values):
                empty.append(f"{name}, {panel}: {expr}")
    assert not empty, "\n".join(empty)


def killed(scene: Scene) -> None:
    """It comes back without the challenger that contradicts it."""
    again = None
    try:
        with (
            scene.fault("ShadowDisagrees", told=False),
            scene.away(),
            scene.fault("ServiceDown"),
            scene.fault("TargetMissing", told=False),
        ):
            again = Service(scene.service.folder, log=scene.database_url, **SETTINGS)
            # It comes back on another port, as a container does.
            [targets] = scene.prometheus.log.parent.glob("prometheus/config/targets/service.json")
            targets.write_text(f'[{{"targets": ["127.0.0.1:{again.port}"]}}]')
            again.wait_until_ready()
    finally:
        if again is not None:
            again.kill()
