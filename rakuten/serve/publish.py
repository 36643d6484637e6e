"""Where the champion is, for whatever serves it on this machine."""

import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rakuten.data.files import atomic_write
from rakuten.errors import RakutenError
from rakuten.model.bundle_files import check_bundle

_LOG = logging.getLogger(__name__)
POINTER = "champion.json"  # below outputs_dir


@dataclass(frozen=True)
class Published:
    """What is to be served, and since when."""

    model: str
    version: str
    run_id: str  # MLflow's
    uuid: str | None
    bundle: str
    published_at: str  # ISO 8601, UTC


def publish(
    outputs_dir: Path, *, model: str, version: str, run_id: str, uuid: str | None, bundle: Path
) -> Path:
    """Point to the bundle; the path of the pointer. Whole or not at all, and the same twice.

    Raises:
        BundleError: it is torn or was changed.
    """
    check_bundle(bundle)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    write_pointer(outputs_dir / POINTER, Published(model, version, run_id, uuid, str(bundle.absolute()), now))
    return outputs_dir / POINTER


def deliver(
    outputs_dir: Path, *, model: str, version: str, run_id: str, uuid: str | None, bundle: Path
) -> Path:
    """Into BentoML's store, and then, when all is there, point to what lies there; the path of the pointer.

    The store is the user's and versions are a registry's: where another registry's model has that tag, the pointer leads
    to the bundle itself, and a warning says so.

    Raises:
        BundleError: it is torn or was changed.
    """
    from rakuten.serve.store import BUNDLE, TagTakenError, put

    try:
        served = put(bundle, model=model, version=version, run_id=run_id, uuid=uuid).path / BUNDLE
    except TagTakenError as error:
        _LOG.warning("%s\n  %s is served from where it is", error, bundle)
        served = bundle
    return publish(outputs_dir, model=model, version=version, run_id=run_id, uuid=uuid, bundle=served)


def write_pointer(path: Path, published: Published) -> None:
    """In one atomic step."""
    with atomic_write(path) as partial:
        partial.write_text(
            json.dumps(asdict(published), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def published(outputs_dir: Path) -> Published:
    """As `read_pointer`, of the pointer's usual place."""
    return read_pointer(outputs_dir / POINTER)


def read_pointer(path: Path) -> Published:
    """
    Raises:
        RakutenError: nothing is published here, or the pointer is damaged.
    """
    if not path.is_file():
        raise RakutenError(f"there is no champion at {path}", fix="promote one: python scripts/promote.py")
    try:
        return Published(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RakutenError(f"{path} is damaged", got=error, fix="promote again") from error
