"""Who may ask, how often, what is told to whom, and what never gets into a log."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rakuten.errors import ConfigError
from rakuten.serve.problems import ProblemError
from rakuten.serve.security import Buckets, hash_key
from rakuten.serve.settings import load_settings
from tests.serve.process import Service, house
from tests.serve.wire import photo

TITLE = {"designation": "Piscine gonflable"}
OPEN = (
    "/",
    "/livez",
    "/readyz",
    "/healthz",
    "/health",
    "/docs",
    "/docs/problems",
    "/openapi.json",
    "/page/style.css",
)
CLOSED = ("/model", "/metrics", "/schema.json")
SECRET = "Schlüsselblume-Nr4711"
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def new_key(name: str) -> tuple[str, str]:
    """A key and its entry, as the command prints them."""
    command = [sys.executable, "-m", "rakuten.serve.keys", name]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return lines[0].rpartition(" ")[2], lines[1].rpartition(" ")[2]


@pytest.fixture(scope="module")
def keys() -> list[tuple[str, str]]:
    return [new_key("shop"), new_key("night.job")]


@pytest.fixture(scope="module")
def locked(
    bundle: Path, tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[str, str]]
) -> Iterator[Service]:
    entries = " , ".join(entry for _, entry in keys)
    service = Service(
        house(tmp_path_factory.mktemp("locked") / "house", bundle),
        api_keys=entries,
        rate_limit=0.5,
        rate_burst=20,
        log_texts=False,
    )
    try:
        yield service.wait_until_ready()
    finally:
        service.kill()


def test_a_key_is_known_by_its_hash_alone(keys: list[tuple[str, str]]) -> None:
    (key, entry), (other, _) = keys
    assert entry == f"shop:{hash_key(key)}"
    assert key not in entry
    assert key != other
    assert len(key) >= 43  # 256 bits


@pytest.mark.parametrize("path", OPEN)
def test_what_watches_and_what_says_nothing_needs_no_key(locked: Service, path: str) -> None:
    assert locked.status(path) == 200


@pytest.mark.parametrize("path", CLOSED)
def test_what_tells_of_the_catalogue_and_its_traffic_needs_one(
    locked: Service, path: str, keys: list[tuple[str, str]]
) -> None:
    assert locked.status(path) == 401
    with locked.client(headers={"X-API-Key": keys[1][0]}) as client:
        assert client.get(path).status_code == 200


def test_a_key_comes_in_either_header(locked: Service, keys: list[tuple[str, str]]) -> None:
    for key, entry in keys:
        for header in (
            {"Authorization": f"Bearer {key}"},
            {"authorization": f"bearer  {key}"},
            {"X-API-Key": key},
        ):
            with locked.client(headers=header) as client:
                assert client.post("/predict", json=TITLE).status_code == 200
        for wrong in ({}, {"X-API-Key": entry}, {"X-API-Key": key[:-1]}, {"Authorization": f"Basic {key}"}):
            with locked.client(headers=wrong) as client:
                response = client.post("/predict", json=TITLE)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["type"] == "/docs/problems#unauthorized"
            assert key not in response.text


def test_no_body_is_read_without_a_key(locked: Service) -> None:
    with locked.client() as client:
        assert client.post("/predict", content=bytes(50_000_000)).status_code == 401


def test_a_rate_is_a_keys_own(locked: Service, keys: list[tuple[str, str]]) -> None:
    with (
        locked.client(headers={"X-API-Key": keys[0][0]}) as one,
        locked.client(headers={"X-API-Key": keys[1][0]}) as other,
    ):
        responses = [one.post("/predict", json=TITLE) for _ in range(40)]
        statuses = [each.status_code for each in responses]
        assert {200, 429} >= set(statuses)
        assert 1 <= statuses.count(429) <= 39
        refused = responses[statuses.index(429)]
        assert refused.json()["type"] == "/docs/problems#rate-limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 2
        assert other.post("/predict", json=TITLE).status_code == 200
        assert locked.status("/readyz") == 200


def test_a_bucket_fills_again_and_forgets_who_has_not_come_for_long() -> None:
    buckets = Buckets(rate=1e-9, burst=3)
    for _ in range(3):
        buckets.take("a")
    with pytest.raises(ProblemError) as refused:
        buckets.take("a")
    assert (refused.value.retry_after_s or 0) > 1
    buckets.take("b")
    for number in range(20_000):
        buckets.take(str(number))
    buckets.take("a")
    quick = Buckets(rate=1e9, burst=1)
    for _ in range(100):
        quick.take("a")


def test_it_says_loudly_that_anybody_may_ask(served: Service, locked: Service) -> None:
    assert "NO API KEYS" in served.said
    assert "127.0.0.1" in served.said
    assert "ANYBODY WHO REACHES THIS PORT" not in served.said
    assert "NO API KEYS" not in locked.said


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", path) for path in (*OPEN, "/metrics", "/nothing")]
    + [("POST", "/predict"), ("DELETE", "/livez")],
)
def test_security_headers_are_on_everything(served: Service, method: str, path: str) -> None:
    with served.client() as client:
        headers = client.request(method, path, json={} if method == "POST" else None).headers
    assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe-eval" not in headers["content-security-policy"]
    assert "server" not in headers
    if path == "/":
        assert "unsafe" not in headers["content-security-policy"]
    if not path.startswith(("/docs", "/page", "/openapi")) and path != "/":
        assert headers["cache-control"] == "no-store"


def test_no_answer_is_for_another_site(served: Service) -> None:
    with served.client(headers={"Origin": "https://elsewhere.example"}) as client:
        response = client.post("/predict", json=TITLE)
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_nothing_of_a_customer_gets_into_the_log(served: Service) -> None:
    body = {"designation": SECRET}
    with served.client() as client:
        sent: list[httpx.Response] = [
            client.post("/predict", json=body),
            client.post("/predict", json=[SECRET]),
            client.post("/predict", json={SECRET: 1}),
            client.post("/predict", json={"designation": {SECRET: 1}}),
            client.post("/predict", content=f'{{"designation": "{SECRET}', headers={"Content-Type": "application/json"}),
            client.post("/predict", files={SECRET: b"x"}),
            client.post("/predict", files={"image": SECRET.encode()}),
            client.post("/predict", data={"designation": SECRET, "explain": SECRET}, files={"image": ("", b"")}),
            client.post("/predict", json=body, headers={"Content-Type": f"text/plain; title={SECRET}".encode()}),
            client.post(f"/predict?explain={SECRET}", json=body),
            client.post(f"/{SECRET}", json=body),
            client.get(f"/health?title={SECRET}"),
            client.post("/predict_batch", json={"items": [body, {"designation": [SECRET]}, {"image": SECRET}]}),
            client.post("/feedback", json={"prediction_id": SECRET, "prdtypecode": SECRET}),
            client.post("/predict", json=body, headers={"Authorization": f"Bearer {SECRET}".encode()}),
            client.post("/predict", files={"designation": SECRET, "image": photo()[:200]}),
        ]  # fmt: skip
    assert {each.status_code for each in sent} <= {200, 400, 404, 415, 422}
    for spelt in (SECRET, SECRET.encode().decode("latin-1"), "Nr4711"):
        assert spelt not in served.said
    with served.client() as client:
        assert "Nr4711" not in client.get("/metrics").text


def test_labels_of_the_metrics_are_not_made_by_clients(served: Service) -> None:
    with served.client() as client:
        for number in range(20):
            client.get(f"/made-up-{number}")
            client.get(f"/page/made-up-{number}")
            client.request("PROPFIND", f"/docs/made-up-{number}")
        assert "made-up" not in client.get("/metrics").text
        assert "PROPFIND" not in client.get("/metrics").text


def test_settings_that_mean_nothing_are_told_with_the_nearest_that_do(monkeypatch: Any) -> None:
    monkeypatch.setenv("RAKUTEN_SERVE_RATE_LIMTI", "5")
    monkeypatch.setenv("RAKUTEN_SERVE_LIMITS__ITEM", "5")
    monkeypatch.setenv("RAKUTEN_SERVE_TOP_K", "many")
    monkeypatch.setenv("RAKUTEN_SERVE_API_KEYS", "shop:my-own-secret")
    with pytest.raises(ConfigError) as refused:
        load_settings()
    said = str(refused.value)
    assert "did you mean RAKUTEN_SERVE_RATE_LIMIT?" in said
    assert "did you mean RAKUTEN_SERVE_LIMITS__ITEMS?" in said
    assert "top_k" in said
    assert "NAME:SHA256" in said
    assert "my-own-secret" not in said


def test_a_file_of_settings_is_read_as_strictly(monkeypatch: Any, tmp_path: Path) -> None:
    text = Path("conf/serve.yaml").read_text(encoding="utf-8")
    (tmp_path / "conf").mkdir()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "conf/serve.yaml"
    for changed, said in (
        (text.replace("top_k:", "topk:"), "did you mean top_k?"),
        (text.replace("  items:", "  itmes:"), "did you mean limits.items?"),
        (text + "\n{", "no YAML"),
        ("- a", "no settings"),
    ):
        file.write_text(changed, encoding="utf-8")
        with pytest.raises(ConfigError) as refused:
            load_settings()
        assert said in str(refused.value)


@pytest.mark.slow
def test_beyond_loopback_it_says_so_louder(bundle: Path, tmp_path: Path) -> None:
    class Outside(Service):
        def _start(self) -> "subprocess.Popen[bytes]":
            command = [
                sys.executable,
                "-m",
                "bentoml",
                "serve",
                "--host",
                "0.0.0.0",
                "--port",
                str(self.port),
            ]
            with self.stderr.open("wb") as log:
                return subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    service = Outside(house(tmp_path / "house", bundle))
    try:
        service.wait_until_ready()
        assert "ANYBODY WHO REACHES THIS PORT MAY ASK" in service.said
    finally:
        service.kill()
