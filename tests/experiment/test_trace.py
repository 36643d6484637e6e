"""The way back from a bundle, and what is said where something on it is not as it was."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from rakuten.cli import compose
from rakuten.config import DoctorConfig
from rakuten.doctor.lineage import walk_back
from rakuten.errors import BundleError, RakutenError
from tests.experiment.conftest import Shop, Told

Walk = Callable[..., tuple[int, dict[str, list[str]], str]]


@pytest.fixture
def copy(shop: Shop, tmp_path: Path) -> Path:
    """The shop, to be tampered with."""
    shutil.copytree(shop.folder, tmp_path / "shop", copy_function=shutil.copy2)
    return tmp_path / "shop"


@pytest.fixture
def walk(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Walk:
    monkeypatch.chdir(copy)

    def walk(name: str) -> tuple[int, dict[str, list[str]], str]:
        """Exit code, steps by severity, and what people were told."""
        config = compose("doctor", [f"lineage='{name}'", "json=true"], DoctorConfig)
        told = Told()
        report = walk_back(config, told)
        assert report.text is not None
        rows = json.loads(report.text)
        by: dict[str, list[str]] = {}
        for row in rows:
            by.setdefault(row["severity"], []).append(row["check"])
        return report.exit_code, by, json.dumps(rows)

    return walk


def lineage_of(bundle: Path) -> dict[str, str]:
    info: dict[str, dict[str, str]] = json.loads((bundle / "bundle.json").read_text())
    return info["lineage"]


def test_every_name_leads_back(walk: Walk, copy: Path, shop: Shop) -> None:
    bundle = copy / shop.run.relative_to(shop.folder) / "bundle"
    lineage = lineage_of(bundle)
    for name in (str(bundle), shop.run.name, lineage["tracking_id"], lineage["rakuten.run_id"]):
        code, by, text = walk(name)
        assert code == 0, text
        assert {"bundle", "run", "bundle in MLflow", "commit", "config", "raw data"} <= set(by["ok"])
        assert by.get("skipped", []) == ["pipeline"], "it was made by hand"


def test_without_its_folder_it_is_fetched(walk: Walk, copy: Path, shop: Shop) -> None:
    name = lineage_of(shop.bundle)["rakuten.run_id"]
    shutil.rmtree(copy / shop.run.relative_to(shop.folder))
    code, by, text = walk(name)
    assert code == 0, text
    assert "bundle" in by["ok"]


def change_weights(copy: Path, bundle: Path) -> None:
    (bundle / "weights.safetensors").write_bytes(b"others")


def change_row(copy: Path, bundle: Path) -> None:
    path = copy / "data/demo/X_train.csv"
    path.write_bytes(path.read_bytes().replace(b"\n1,", b"\n1,X", 1))


def change_photo(copy: Path, bundle: Path) -> None:
    path = sorted((copy / "data/demo/images/image_train").glob("*.jpg"))[-1]
    path.write_bytes(path.read_bytes()[:-40])


def change_tag(copy: Path, bundle: Path) -> None:
    client = MlflowClient(f"sqlite:///{copy / 'outputs/mlflow.db'}")
    client.set_tag(lineage_of(bundle)["tracking_id"], "git_commit", "0" * 40)


def change_config(copy: Path, bundle: Path) -> None:
    artifact(copy, bundle, "config.yaml", lambda text: text.replace("\nseed: 0", "\nseed: 1"))


def change_lock(copy: Path, bundle: Path) -> None:
    lock = {"stages": {"train": {"outs": [{"path": "models/demo", "md5": "0" * 32 + ".dir"}], "deps": []}}}
    client = MlflowClient(f"sqlite:///{copy / 'outputs/mlflow.db'}")
    client.log_text(lineage_of(bundle)["tracking_id"], yaml.safe_dump(lock), "dvc.lock")


def artifact(copy: Path, bundle: Path, name: str, change: Callable[[str], str]) -> None:
    client = MlflowClient(f"sqlite:///{copy / 'outputs/mlflow.db'}")
    run = client.get_run(lineage_of(bundle)["tracking_id"])
    text = Path(client.download_artifacts(run.info.run_id, name)).read_text()
    client.log_text(run.info.run_id, change(text), name)


@pytest.mark.parametrize(
    ("change", "step", "said"),
    [
        (change_row, "raw data", "changed since"),
        (change_photo, "raw data", "images, merged_train.csv changed since"),
        (change_tag, "run", "git_commit is 000"),
        (change_config, "config", "seed differ"),
        (change_lock, "pipeline", "names another bundle"),
    ],
)
def test_what_is_not_as_it_was_is_an_error(
    walk: Walk, copy: Path, shop: Shop, change: Callable[[Path, Path], None], step: str, said: str
) -> None:
    artifacts = shop.folder / "outputs/mlartifacts"
    kept = {path: path.read_bytes() for path in artifacts.rglob("*") if path.suffix in (".yaml", ".lock")}
    bundle = copy / shop.run.relative_to(shop.folder) / "bundle"
    try:
        change(copy, bundle)
        code, by, text = walk(str(bundle))
    finally:  # the copy's database points to the shop's own artifacts
        for path in [path for path in artifacts.rglob("dvc.lock") if path not in kept]:
            path.unlink()
        for path, content in kept.items():
            path.write_bytes(content)
    assert code == 20
    assert by["error"] == [step], text
    assert said in text


def test_a_bundle_that_was_changed_is_not_walked_back_from(walk: Walk, copy: Path, shop: Shop) -> None:
    bundle = copy / shop.run.relative_to(shop.folder) / "bundle"
    change_weights(copy, bundle)
    with pytest.raises(BundleError, match="torn or changed"):
        walk(str(bundle))
    with pytest.raises(RakutenError, match="no run, bundle or version called"):
        walk("nobody")
