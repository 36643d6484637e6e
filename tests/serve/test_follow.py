"""The champion in MLflow: its alias is followed over HTTP, what it names is brought here whole, and an outage changes nothing."""

import asyncio
import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from rakuten.errors import BundleError, RakutenError
from rakuten.model.bundle_files import check_bundle
from rakuten.model.onnx_export import export_onnx
from rakuten.serve.champion import Champion
from rakuten.serve.follow import download
from rakuten.serve.follow.download import Entry, Source, keep
from rakuten.serve.follow.group import Group
from rakuten.serve.follow.place import AwayError
from rakuten.serve.follow.registry import KEPT, Registry
from rakuten.serve.loading import loader
from rakuten.serve.settings import load_settings
from tests.serve.bad_bundles import broken, tampered
from tests.serve.conftest import StartIn
from tests.services import MlflowServer, mlflow_server

pytestmark = pytest.mark.acceptance


class House:
    """An MLflow server, and what somebody else does there."""

    def __init__(self, server: MlflowServer):
        self.server, self.client, self.model = server, MlflowClient(server.uri), f"rakuten-{uuid4().hex[:8]}"
        with suppress(MlflowException):  # the client asks again where an answer is slow, and then it is there
            self.client.create_registered_model(self.model)

    def add(self, bundle: Path, graphs: Path | None = None) -> str:
        """A run with the bundle, registered; the version's number."""
        run_id = self.client.create_run("0").info.run_id
        self.client.log_artifacts(run_id, str(bundle), "bundle")
        if graphs is not None:
            self.client.log_artifacts(run_id, str(graphs), "onnx")
        source = f"{self.client.get_run(run_id).info.artifact_uri}/bundle"
        return str(self.client.create_model_version(self.model, source, run_id).version)

    def crown(self, version: str) -> None:
        self.client.set_registered_model_alias(self.model, "champion", version)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow") / "server") as server:
        yield server


@pytest.fixture
def mlflow(server: MlflowServer) -> House:
    return House(server)


def place(mlflow: House, folder: Path, max_bytes: int = 10**9) -> Registry:
    return Registry(mlflow.server.uri, mlflow.model, folder / "served", max_bytes)


def worker(registry: Registry, folder: Path) -> Champion:
    return Champion(registry, loader(load_settings()), Group(folder), poll_s=3600)


@pytest.mark.slow
def test_what_the_alias_names_is_brought_here(mlflow: House, bundle: Path, tmp_path: Path) -> None:
    registry = place(mlflow, tmp_path)
    with pytest.raises(RakutenError, match=r"has no rakuten-\w+@champion"):
        registry.newest()
    mine = shutil.copytree(bundle, tmp_path / "run/bundle")
    export_onnx(mine, tmp_path / "run/onnx")
    version = mlflow.add(mine, tmp_path / "run/onnx")
    with pytest.raises(RakutenError, match=r"has no rakuten-\w+@champion"):
        registry.newest()
    mlflow.crown(version)
    found = registry.newest()
    folder = registry.bring(found)
    assert found.version == version
    assert check_bundle(folder) == check_bundle(bundle)
    served = loader(load_settings(runtime="onnx"))(found, folder)
    assert served.runtime.name == "onnx", "the graphs came along"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert registry.bring(found) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "it is fetched once"


@pytest.mark.slow
def test_it_follows_and_keeps_the_last_good_one(
    mlflow: House, bundle: Path, other_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = mlflow.add(bundle), mlflow.add(other_bundle)
    bad = mlflow.add(broken(bundle, tmp_path / "bad", tampered))

    async def main() -> None:
        mlflow.crown(first)
        champion = worker(place(mlflow, tmp_path), tmp_path)
        await champion.start()

        def version() -> str | None:
            return champion.current and champion.current.version

        assert version() == first
        mlflow.crown(bad)
        for _ in range(3):
            await champion.look()
        assert version() == first
        told = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
        assert len(told) == 1
        assert f"version {bad} of {mlflow.model}@champion of {mlflow.server.uri} is refused" in told[0]
        assert "torn or changed" in told[0]
        mlflow.crown(second)
        await champion.look()
        assert version() == second
        mlflow.crown(first)
        await champion.look()
        assert version() == first, "the way back, from what is here"

        caplog.clear()
        mlflow.server.kill()
        for _ in range(3):
            await champion.look()
        assert version() == first
        told = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
        assert len(told) == 1, "one line for the outage"
        assert "is away" in told[0]

        # Whoever starts while it is away begins with what was served last.
        late = worker(place(mlflow, tmp_path), tmp_path / "late")
        await late.start()
        assert late.current is not None
        assert late.current.version == first
        await late.aclose()

        mlflow.server.start()
        mlflow.crown(second)
        await champion.look()
        assert version() == second
        assert champion.problem is None
        await champion.aclose()

    asyncio.run(main())


@pytest.mark.slow
def test_a_service_follows_mlflow_and_lives_through_its_outage(
    mlflow: House, bundle: Path, other_bundle: Path, house: Path, start_in: StartIn
) -> None:
    following = {"champion": mlflow.server.uri, "registered_model": mlflow.model, "poll_s": 0.2}
    service = start_in(house, **following).wait_until_alive()
    assert service.status("/readyz") == 503
    first, second = mlflow.add(bundle), mlflow.add(other_bundle)
    mlflow.crown(first)
    service.wait_until_ready()
    with service.client() as client:
        assert client.get("/health").json()["model_version"] == first
        mlflow.crown(second)
        service.wait(lambda: client.get("/health").json()["model_version"] == second)
        mlflow.server.kill()
        service.wait(lambda: "is away" in service.said)
        assert client.post("/predict", json={"designation": "Piscine"}).json()["model_version"] == second
    assert service.terminate() == 0
    again = start_in(house, **following).wait_until_ready()
    with again.client() as client:
        assert client.get("/health").json()["model_version"] == second
    mlflow.server.start()


def test_old_ones_are_thrown_away(server: MlflowServer, tmp_path: Path) -> None:
    registry = Registry(server.uri, "rakuten", tmp_path, 10**9)
    for number in range(KEPT + 2):
        found = registry._found(str(number), f"run{number}")
        (tmp_path / found.key).mkdir()
        registry.remember(found)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == KEPT
    assert registry.last() == found
    assert (tmp_path / found.key).is_dir()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_where_nothing_answers_it_is_away(address: str, tmp_path: Path) -> None:
    with pytest.raises(AwayError, match="is away"):
        Registry(address, "rakuten", tmp_path, 10**9).newest()


def parts(content: dict[str, bytes], listed: dict[str, int] | None = None) -> dict[str, Source]:
    return {"bundle": Files(content, listed)}


class Files:
    """A source that says and gives what a test wants."""

    def __init__(self, content: dict[str, bytes], listed: dict[str, int] | None = None):
        self._content = content
        self._listed = listed or {name: len(data) for name, data in content.items()}

    def entries(self) -> Iterator[Entry]:
        yield from (Entry(name, size) for name, size in self._listed.items())

    def chunks(self, name: str) -> Iterator[bytes]:
        yield self._content[name]


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "a/../../x", ".hidden", "a/.git/x", "", "a//b", "a\\b", "a\nb", "..", "é", "a" * 200],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="whose name is none"):
        keep(parts({name: b"x"}), tmp_path / "served/1", lambda _: None, 10**6)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]


def test_more_than_was_listed_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="too large"):
        keep(parts({"a": b"x" * 2000}, {"a": 10}), tmp_path / "1", lambda _: None, 1000)
    with pytest.raises(BundleError, match="too large"):
        keep(parts({"a": b""}, {"a": 2000}), tmp_path / "1", lambda _: None, 1000)
    assert not (tmp_path / "1").exists()


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    many = {f"f{number}": b"" for number in range(download.MAX_FILES + 1)}
    with pytest.raises(BundleError, match="too many files"):
        keep(parts(many), tmp_path / "1", lambda _: None, 1000)


def test_what_the_check_refuses_is_not_kept(tmp_path: Path) -> None:
    def check(folder: Path) -> None:
        if (folder / "bundle/a").read_bytes() != b"good":
            raise BundleError("bad")

    with pytest.raises(BundleError, match="bad"):
        keep(parts({"a": b"bad"}), tmp_path / "1", check, 1000)
    assert not (tmp_path / "1").exists()
    keep(parts({"a": b"good"}), tmp_path / "1", check, 1000)
    keep(parts({"a": b"other"}), tmp_path / "1", check, 1000)
    assert (tmp_path / "1/bundle/a").read_bytes() == b"good", "what is whole stays"
