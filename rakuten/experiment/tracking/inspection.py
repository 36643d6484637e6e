"""What can be known of the store and of what waits for it, with nothing changed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rakuten.config import TrackingConfig
from rakuten.experiment.tracking.journal import JOURNALS, without_password
from rakuten.experiment.tracking.store import absolute, check_database, client_class, explained


@dataclass(frozen=True)
class ArtifactRoot:
    """Where an experiment's artifacts go, which is fixed when the experiment is made."""

    uri: str
    exists: bool  # False: the experiment is yet to be made, and `uri` is what it would get
    is_deleted: bool


@dataclass(frozen=True)
class Waiting:
    """A journal that is not delivered, as a whole or in part."""

    path: Path
    is_held: bool  # a live process writes or delivers it
    is_ours: bool  # for the store and experiment of the config that was asked about


def database_file(config: TrackingConfig) -> Path | None:
    """The SQLite file that the config names; None for any other store."""
    uri = absolute(config.uri)
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def artifact_root(config: TrackingConfig) -> ArtifactRoot:
    """Asks the store, a SQLite file that is there or a server; nothing is made.

    Raises:
        RakutenError: it cannot be reached or opened.
    """
    new_client = client_class()
    check_database(config)
    with explained(config):
        client = new_client(absolute(config.uri))
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is not None:
            return ArtifactRoot(
                str(experiment.artifact_location), True, experiment.lifecycle_stage == "deleted"
            )
        if config.artifact_root is not None:
            return ArtifactRoot(Path(config.artifact_root).absolute().as_uri(), False, False)
        others = client.search_experiments(max_results=1)  # a server gives all of them places of one kind
        return ArtifactRoot(str(others[0].artifact_location) if others else "", False, False)


def waiting(config: TrackingConfig, outputs_dir: Path) -> Iterator[Waiting]:
    """Journals below `outputs_dir` that have something to deliver."""
    ours = without_password(absolute(config.uri)), config.experiment
    for path in sorted(path for pattern in JOURNALS for path in outputs_dir.glob(pattern)):
        starts = [line for line in _lines(path) if line.get("op") == "start"]
        if starts:
            last = starts[-1]
            is_ours = (last.get("uri"), last.get("experiment")) == ours
            yield Waiting(path, _is_held(path), is_ours)


def _lines(path: Path) -> Iterator[dict[str, object]]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if '"start"' in line:  # the others may be many, and long
                    parsed = json.loads(line)
                    if isinstance(parsed, dict):
                        yield parsed
    except (OSError, ValueError):  # gone meanwhile, or torn
        return


def _is_held(path: Path) -> bool:
    lock = path.with_name(f".{path.name}.lock")
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError):
        return True
