"""BentoML's model store: `rakuten:VERSION`, a bundle with the graphs that were derived from it."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from rakuten.errors import RakutenError
from rakuten.model.bundle_files import INFO, check_bundle, copy_bundle
from rakuten.model.onnx_files import BESIDE, graphs_of, read_export

BUNDLE = "bundle"  # in the store's folder
ALIAS = "champion"  # in bentofile.yaml: the model that a bento was built with


class TagTakenError(RakutenError):
    """The store holds another registry's model under that tag."""


@dataclass(frozen=True)
class Stored:
    """A model of the store."""

    tag: str
    version: str
    key: str  # of its content
    path: Path


def put(bundle: Path, *, model: str, version: str, run_id: str, uuid: str | None) -> Stored:
    """The bundle as `model:version` in the store, with the graphs beside it; the same twice is fine.

    Raises:
        BundleError: it is torn or was changed.
        TagTakenError: the store holds something else under that tag.
    """
    import bentoml

    tag, key = f"{model}:{version}", content_key(bundle)
    known = _get(tag)
    if known is None:
        labels = {"run_id": run_id, "uuid": uuid or ""}
        with bentoml.models.create(tag, labels=labels, metadata={"bundle": key}) as created:
            copy_bundle(bundle, Path(created.path) / BUNDLE)
        known = _get(tag)
    elif known.key != key:
        raise TagTakenError(
            f"BentoML's store holds another {tag}",
            expected=f"a bundle of {key[:12]}",
            got=known.key[:12],
            fix=f"bentoml models delete {tag}, where it is of a registry that is gone; then promote again",
        )
    assert known is not None
    _put_graphs(bundle, known.path / BUNDLE)
    return known


def _put_graphs(source: Path, target: Path) -> None:
    """Derived again, they replace those of the same bundle that are there."""
    new, old = (read_export(graphs_of(bundle), check_bundle(bundle)) for bundle in (source, target))
    if new is None or new == old:
        return
    partial = graphs_of(target).with_name(f".{BESIDE}")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(graphs_of(source), partial)
    shutil.rmtree(graphs_of(target), ignore_errors=True)
    partial.rename(graphs_of(target))


def newest_stored(model: str) -> Stored | None:
    """In a bento, the one that it was built with; else the store's newest. None where there is none."""
    pinned = _get(ALIAS)
    if pinned is not None and pinned.tag.startswith(f"{model}:"):
        return pinned
    return _get(f"{model}:latest")


def content_key(bundle: Path) -> str:
    """The same for the same content: the bundle's JSON holds every other file's hash."""
    check_bundle(bundle)
    return hashlib.sha256((bundle / INFO).read_bytes()).hexdigest()


def _get(tag: str) -> Stored | None:
    import bentoml

    try:
        found = bentoml.models.get(tag)
    except bentoml.exceptions.NotFound:
        return None
    key = str(found.info.metadata.get("bundle", ""))
    return Stored(str(found.tag), str(found.tag.version), key, Path(found.path))
