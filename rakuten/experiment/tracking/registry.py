"""MLflow's model registry: versions of one model, each a run's bundle, and the aliases that say what they are for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rakuten.config import TrackingConfig
from rakuten.errors import RakutenError
from rakuten.experiment.lineage import UUID_TAG
from rakuten.experiment.tracking.store import RUN_TAG, check_database, explained, open_store

CHAMPION, CHALLENGER = "champion", "challenger"
BUNDLE = "bundle"  # the artifact of a run that is registered
REPLACED_TAG = "rakuten.replaced"  # of a version: the champion before it


@dataclass(frozen=True)
class Version:
    """A registered bundle."""

    number: str
    run_id: str  # MLflow's
    tags: Mapping[str, str]

    @property
    def replaced(self) -> str | None:
        """The number of the champion before it."""
        return self.tags.get(REPLACED_TAG) or None


class Registry:
    """The versions of the model `name`, and the runs that made them.

    Every method raises:
        RakutenError: MLflow cannot be used, or there is no such run or version.
    """

    def __init__(self, config: TrackingConfig, name: str):
        if config.kind == "off":
            raise RakutenError(
                "a model registry needs MLflow",
                expected="tracking=local or tracking=server",
                got="tracking=off",
            )
        self.name, self._config = name, config
        check_database(config)
        self._client, self._experiment = open_store(config)

    def with_alias(self, alias: str) -> Version | None:
        """The version with this alias; None where there is none."""
        from mlflow.exceptions import MlflowException

        with explained(self._config):
            try:
                return _version(self._client.get_model_version_by_alias(self.name, alias))
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def version(self, number: str) -> Version:
        with explained(self._config):
            return _version(self._client.get_model_version(self.name, number))

    def version_of(self, run_id: str) -> Version | None:
        """The run's version; None where it is not registered."""
        with explained(self._config):
            known = self._client.search_model_versions(f"name = '{self.name}' and run_id = '{run_id}'")
        return _version(known[0]) if known else None

    def register(self, run_id: str) -> Version:
        """The run's version, made where there is none."""
        if known := self.version_of(run_id):
            return known
        with explained(self._config):
            if not self._client.search_registered_models(f"name = '{self.name}'"):
                self._client.create_registered_model(self.name)
            source = f"{self._client.get_run(run_id).info.artifact_uri}/{BUNDLE}"
            return _version(self._client.create_model_version(self.name, source, run_id))

    def set_alias(self, alias: str, number: str) -> None:
        with explained(self._config):
            self._client.set_registered_model_alias(self.name, alias, number)

    def drop_alias(self, alias: str) -> None:
        with explained(self._config):
            self._client.delete_registered_model_alias(self.name, alias)

    def tag(self, number: str, tags: Mapping[str, str]) -> None:
        with explained(self._config):
            for key, value in tags.items():
                self._client.set_model_version_tag(self.name, number, key, value)

    def find_run(self, name: str) -> str | None:
        """MLflow's id of the run that is called so by its folder, its UUID or MLflow; None where there is none."""
        from mlflow.exceptions import MlflowException

        with explained(self._config):
            for tag in (RUN_TAG, UUID_TAG):
                found = self._client.search_runs(
                    [self._experiment], f"tags.`{tag}` = '{name.replace(chr(39), '')}'", max_results=1
                )
                if found:
                    return str(found[0].info.run_id)
            try:
                return str(self._client.get_run(name).info.run_id)
            except MlflowException:
                return None

    def run_tags(self, run_id: str) -> dict[str, str]:
        with explained(self._config):
            return dict(self._client.get_run(run_id).data.tags)

    def run_status(self, run_id: str) -> str:
        with explained(self._config):
            return str(self._client.get_run(run_id).info.status)

    def artifacts(self, run_id: str) -> list[str]:
        """Names at the top of the run's artifacts."""
        with explained(self._config):
            return [each.path for each in self._client.list_artifacts(run_id)]

    def download(self, run_id: str, name: str, folder: Path) -> Path:
        """A copy of one of the run's artifacts below `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        with explained(self._config):
            return Path(self._client.download_artifacts(run_id, name, str(folder)))

    def log_text(self, run_id: str, text: str, name: str) -> None:
        with explained(self._config):
            self._client.log_text(run_id, text, name)

    def log_folder(self, run_id: str, folder: Path, name: str) -> None:
        """The folder's files among the run's artifacts, below `name`."""
        with explained(self._config):
            self._client.log_artifacts(run_id, str(folder), name)


def _version(entity: Any) -> Version:
    return Version(str(entity.version), str(entity.run_id), dict(entity.tags or {}))
