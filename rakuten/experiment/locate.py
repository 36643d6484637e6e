"""Which bundle a name means: a folder, a run of this machine or of MLflow, a version of the model, or an alias."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rakuten.errors import BundleError, RakutenError
from rakuten.experiment.runs import newest_bundle
from rakuten.experiment.tracking.registry import BUNDLE, CHALLENGER, CHAMPION, Registry, Version
from rakuten.experiment.tracking.store import RUN_TAG
from rakuten.model.bundle_files import INFO, check_bundle

DOWNLOADS = ".downloads"  # below outputs_dir: bundles that were fetched from MLflow


@dataclass(frozen=True)
class Located:
    """A bundle on this machine, checked, and the record of the run that made it, where MLflow has one."""

    bundle: Path
    info: dict[str, Any]
    run_id: str | None  # MLflow's
    version: Version | None

    @property
    def run_name(self) -> str:
        return str(self.info["lineage"][RUN_TAG])


def locate(name: str | None, outputs_dir: Path, registry: Registry) -> Located:
    """The bundle that `name` means; without one, the newest run's. Fetched from MLflow where it is not here.

    Raises:
        RakutenError: nothing is called so, or it has no bundle.
        BundleError: its bundle is torn or was changed.
    """
    folder = _folder(name, outputs_dir)
    if folder is not None:
        info = check_bundle(folder)
        lineage = info["lineage"]
        run_id = registry.find_run(lineage[RUN_TAG])
        return Located(folder, info, run_id, None)
    assert name is not None
    version = _version(name, registry)
    run_id = version.run_id if version else registry.find_run(name)
    if run_id is None:
        raise RakutenError(
            f"there is no run, bundle or version called {name!r}",
            expected=f"a folder with {INFO}, a run's folder below {outputs_dir}/ or its id, or a version of the"
            f" model {registry.name!r}",
        )
    return bundle_of(run_id, version, outputs_dir, registry)


def bundle_of(run_id: str, version: Version | None, outputs_dir: Path, registry: Registry) -> Located:
    """The bundle of a run of MLflow's: the one on this machine where it is there, else fetched."""
    here = outputs_dir / registry.run_tags(run_id).get(RUN_TAG, "") / BUNDLE
    if (here / INFO).is_file():
        return Located(here, check_bundle(here), run_id, version)
    fetched = outputs_dir / DOWNLOADS / run_id / BUNDLE
    try:
        return Located(fetched, check_bundle(fetched), run_id, version)
    except BundleError:  # not there yet, or half there
        if BUNDLE not in registry.artifacts(run_id):
            raise RakutenError(
                f"run {run_id} has no bundle",
                fix="train it to its end, or deliver it: scripts/doctor.py deliver=true",
            ) from None
        registry.download(run_id, BUNDLE, fetched.parent)
    return Located(fetched, check_bundle(fetched), run_id, version)


def _folder(name: str | None, outputs_dir: Path) -> Path | None:
    if name is None:
        return newest_bundle(outputs_dir)
    places = (Path(name), Path(name) / BUNDLE, outputs_dir / name / BUNDLE)
    return next((place for place in places if (place / INFO).is_file()), None)


def _version(name: str, registry: Registry) -> Version | None:
    if name in (CHAMPION, CHALLENGER):
        return registry.with_alias(name)
    return registry.version(name) if name.isdecimal() else None
