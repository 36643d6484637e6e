"""The champion in MLflow: its alias over the REST API, the run's bundle through the server. No MLflow client."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from rakuten.errors import BundleError, RakutenError
from rakuten.model.bundle_files import check_bundle
from rakuten.model.onnx_files import BESIDE, graphs_of, read_export
from rakuten.serve.follow.download import MAX_FILES, Entry, keep
from rakuten.serve.follow.place import AwayError, Found
from rakuten.serve.publish import POINTER, Published, read_pointer, write_pointer

ALIAS, BUNDLE = "champion", "bundle"
KEPT: Final = 3  # champions below `served_dir`: the one that answers and those before it
_API = "/api/2.0/mlflow"
_TIMEOUT_S: Final = 10.0
_NONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # what it says where there is no such alias
_MAX_JSON_BYTES: Final = 4_000_000


class Registry:
    """The model `name` of MLflow at `address`; what was brought lies below `served_dir`, a folder a version."""

    def __init__(self, address: str, name: str, served_dir: Path, max_bytes: int):
        self.address, self.name = address.rstrip("/"), name
        self._served_dir, self._max_bytes = served_dir, max_bytes
        self._client = httpx.Client(timeout=_TIMEOUT_S, headers=_token(), auth=_password())

    def newest(self) -> Found:
        said = self.json("registered-models/alias", {"name": self.name, "alias": ALIAS})
        try:
            version = said["model_version"]
            return self._found(str(int(version["version"])), str(version["run_id"]))
        except (KeyError, TypeError, ValueError) as error:
            raise self._strange(repr(error)) from error

    def bring(self, found: Found) -> Path:
        parts = {name: _Artifacts(self, _run_id(found), name) for name in (BUNDLE, BESIDE)}
        keep(parts, self._folder(found), _check, self._max_bytes)
        return self._folder(found) / BUNDLE

    def remember(self, found: Found) -> None:
        record = Published(
            self.name, found.version, _run_id(found), None, str(self._folder(found) / BUNDLE), ""
        )
        write_pointer(self._served_dir / POINTER, record)
        self._folder(found).touch()  # the newest, also where it comes back
        folders = [path for path in self._served_dir.iterdir() if path.is_dir() and path.name[0] != "."]
        for old in sorted(folders, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def last(self) -> Found | None:
        try:
            record = read_pointer(self._served_dir / POINTER)
        except RakutenError:
            return None
        return self._found(record.version, record.run_id)

    def _found(self, version: str, run_id: str) -> Found:
        if not run_id.isalnum():
            raise RakutenError(f"{self.name}@{ALIAS} of {self.address} is of no run", got=repr(run_id[:100]))
        return Found(version, f"{version}-{run_id}", f"{self.name}@{ALIAS} of {self.address}")

    def _folder(self, found: Found) -> Path:
        return self._served_dir / found.key

    def json(self, path: str, parameters: dict[str, str]) -> Any:
        """Raises: as `answer`, and AwayError where it is no JSON."""
        body = bytearray()
        with self.answer(f"{_API}/{path}", parameters) as response:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _MAX_JSON_BYTES:
                    raise self._strange("more than a list of files")
        try:
            return json.loads(body)
        except ValueError as error:
            raise self._strange(error) from error

    @contextmanager
    def answer(self, path: str, parameters: dict[str, str]) -> Iterator[httpx.Response]:
        """A response whose body is still to be read.

        Raises:
            AwayError: no answer, or one that says that it cannot.
            RakutenError: there is no such thing, or whoever asks may not see it.
        """
        try:
            with self._client.stream("GET", self.address + path, params=parameters) as response:
                if response.status_code != 200:
                    raise self._refused(response)
                yield response
        except httpx.HTTPError as error:
            said = f"{type(error).__name__} {error}".strip()
            raise AwayError(f"MLflow at {self.address} is away", got=said) from error

    def _refused(self, response: httpx.Response) -> RakutenError:
        said = response.read()[:2000].decode(errors="replace")
        if response.status_code in (401, 403):
            return RakutenError(
                f"MLflow at {self.address} lets nobody in",
                got=f"{response.status_code} {said[:100]}",
                fix="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
            )
        if response.status_code in (400, 404) and any(code in said for code in _NONE):
            return RakutenError(
                f"{self.address} has no {self.name}@{ALIAS}",
                got=said[:200],
                fix="promote one: python scripts/promote.py tracking=server",
            )
        return AwayError(
            f"MLflow at {self.address} cannot answer", got=f"{response.status_code} {said[:100]}"
        )

    def _strange(self, got: object) -> AwayError:
        return AwayError(f"{self.address} does not answer as MLflow does", got=got)


class _Artifacts:
    """One folder of a run's artifacts, as a source of files."""

    def __init__(self, registry: Registry, run_id: str, top: str):
        self._registry, self._run_id, self._top = registry, run_id, top

    def entries(self) -> Iterator[Entry]:
        folders = [self._top]
        for folder in folders:  # it grows meanwhile
            if len(folders) > MAX_FILES:
                raise BundleError("what is served has too many folders", expected=f"at most {MAX_FILES}")
            listed = self._registry.json("artifacts/list", {"run_id": self._run_id, "path": folder})
            for each in listed.get("files", []):
                if each.get("is_dir"):
                    folders.append(str(each["path"]))
                else:
                    name = str(each["path"]).removeprefix(self._top + "/")
                    yield Entry(name, int(each.get("file_size", 0)))

    def chunks(self, name: str) -> Iterator[bytes]:
        asked = {"run_id": self._run_id, "path": f"{self._top}/{name}"}
        with self._registry.answer("/get-artifact", asked) as response:
            yield from response.iter_bytes()


def _check(folder: Path) -> None:
    """
    Raises:
        BundleError: there is no bundle, or something in it or its graphs is torn, changed or of another bundle.
    """
    read_export(graphs_of(folder / BUNDLE), check_bundle(folder / BUNDLE))


def _run_id(found: Found) -> str:
    return found.key.removeprefix(found.version + "-")


def _token() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _password() -> tuple[str, str] | None:
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return (name, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if name else None
