"""BentoML's model store, and the pointer to what lies in it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import bentoml
import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models import ModelStore

from rakuten.errors import BundleError, RakutenError
from rakuten.model.bundle_files import check_bundle
from rakuten.model.onnx_export import export_onnx
from rakuten.model.onnx_files import graphs_of, read_export
from rakuten.serve.follow.local import Local
from rakuten.serve.loading import loader
from rakuten.serve.publish import deliver, published
from rakuten.serve.settings import load_settings
from rakuten.serve.store import newest_stored, put
from tests.serve.bad_bundles import broken, tampered

FACTS = {"model": "rakuten", "version": "1", "run_id": "abc", "uuid": "u-1"}


@pytest.fixture(autouse=True)
def store(tmp_path: Path) -> Iterator[None]:
    """A store of the test's own."""
    before = BentoMLContainer.model_store.get()
    (tmp_path / "models").mkdir()
    BentoMLContainer.model_store.set(ModelStore(tmp_path / "models"))
    yield
    BentoMLContainer.model_store.set(before)


def test_a_promoted_bundle_is_in_the_store_and_the_pointer_points_there(bundle: Path, tmp_path: Path) -> None:
    pointer = deliver(tmp_path / "outputs", bundle=bundle, **FACTS)
    said = published(tmp_path / "outputs")
    model = bentoml.models.get("rakuten:1")
    assert model.info.labels == {"run_id": "abc", "uuid": "u-1"}
    assert Path(said.bundle) == Path(model.path) / "bundle"
    assert check_bundle(Path(said.bundle)) == check_bundle(bundle)
    assert (said.version, said.run_id, said.uuid) == ("1", "abc", "u-1")

    place = Local(pointer, "rakuten")
    first = place.newest()
    assert (first.version, place.bring(first)) == ("1", Path(said.bundle))
    pointer.unlink()
    stored = place.newest()
    assert (stored.version, place.bring(stored)) == ("1", Path(said.bundle)), "without a pointer the store's"
    bentoml.models.delete("rakuten:1")
    with pytest.raises(RakutenError, match="no rakuten in BentoML's store"):
        place.newest()


def test_the_same_twice_is_fine_and_something_else_is_not(bundle: Path, other_bundle: Path) -> None:
    first = put(bundle, **FACTS)
    assert put(bundle, **FACTS) == first
    with pytest.raises(RakutenError, match=r"holds another rakuten:1(.|\n)*bentoml models delete rakuten:1"):
        put(other_bundle, **FACTS)
    second = put(other_bundle, **FACTS | {"version": "2"})
    assert newest_stored("rakuten") == second
    assert first.key != second.key


def test_a_bad_bundle_goes_nowhere(bundle: Path, tmp_path: Path) -> None:
    bad = broken(bundle, tmp_path / "bad", tampered)
    with pytest.raises(BundleError):
        deliver(tmp_path / "outputs", bundle=bad, **FACTS)
    assert bentoml.models.list() == []
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_graphs_go_along_and_are_served_from(bundle: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(bundle, tmp_path / "run/bundle")
    put(mine, **FACTS)
    report = export_onnx(mine, graphs_of(mine))
    stored = put(mine, **FACTS)
    target = stored.path / "bundle"
    assert read_export(graphs_of(target), check_bundle(target)) == report
    pointer = deliver(tmp_path / "outputs", bundle=mine, **FACTS)
    place = Local(pointer, "rakuten")
    found = place.newest()
    served = loader(load_settings(runtime="onnx"))(found, place.bring(found))
    assert served.runtime.name == "onnx"

    graph = next(graphs_of(target).glob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(BundleError, match="torn or changed"):
        loader(load_settings())(found, place.bring(found))


def test_rollback_is_a_publication_of_its_own(bundle: Path, other_bundle: Path, tmp_path: Path) -> None:
    keys = []
    for version, each in (("1", bundle), ("2", other_bundle), ("1", bundle)):
        pointer = deliver(tmp_path / "outputs", bundle=each, **FACTS | {"version": version})
        keys.append(Local(pointer, "rakuten").newest().key)
        assert json.loads(pointer.read_text())["version"] == version
    assert len(set(keys)) == 3
