"""Promotion with real bundles in a real MLflow: better, equal, worse, ruined, twice at once, and the way back."""

import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from rakuten.cli import compose
from rakuten.config import PromoteConfig
from rakuten.errors import BundleError, DataError, RakutenError
from rakuten.experiment.promotion import RefusedError, decide
from rakuten.experiment.runs import create_run
from rakuten.experiment.tracking.delivery import start_run
from rakuten.experiment.tracking.store import RUN_TAG
from rakuten.experiment.train import train
from rakuten.model.bundle_files import WEIGHTS, copy_bundle, update_info
from rakuten.serve.publish import publish, published
from tests.experiment.conftest import DEMO, ENVIRONMENT, FUSION, LOOP, ROOT, Shop, Told

# Of 320 products some 50 are held out for test: little, but these models are far apart.
LENIENT = [
    "gate.min_weighted_f1=0.0",
    "gate.max_ece=1.0",
    "gate.min_test_products=20",
    "gate.max_class_drop=1.0",
    "onnx=false",
]


class House:
    """A folder with runs in MLflow, and what promotes them."""

    def __init__(self, folder: Path, shop: Shop):
        self.folder, self.shop = folder, shop
        self.outputs = folder / "outputs"
        self.places = [
            f"outputs_dir={self.outputs}",
            f"tracking.uri=sqlite:///{folder / 'mlflow.db'}",
            f"tracking.artifact_root={folder / 'artifacts'}",
            *DEMO,
            *shop.paths,
        ]
        self.client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")

    def train(self, *overrides: str) -> str:
        config = compose("train", [*FUSION, *LOOP, *self.places, *overrides])
        return train(config, Told()).parent.name

    def config(self, *overrides: str) -> PromoteConfig:
        return compose("promote", [*LENIENT, *self.places, *overrides], PromoteConfig)

    def promote(self, *overrides: str) -> str:
        """The version that is champion then."""
        config = self.config(*overrides)
        self.told = Told()
        with decide(config, self.told) as champion:
            publish(self.outputs, **vars(champion))
        assert published(self.outputs).version == champion.version == self.champion
        assert published(self.outputs).bundle == str(champion.bundle)
        return champion.version

    @property
    def champion(self) -> str | None:
        try:
            return str(self.client.get_model_version_by_alias("rakuten", "champion").version)
        except Exception:
            return None

    @property
    def decisions(self) -> list[dict[str, Any]]:
        path = self.outputs / "promotions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def altered(self, run: str, change: Callable[[dict[str, torch.Tensor]], None]) -> str:
        """A run of its own whose bundle is that of `run` with other weights."""
        new = create_run(self.outputs, "altered")
        copy_bundle(self.outputs / run / "bundle", new.bundle)
        state = load_file(new.bundle / WEIGHTS)
        change(state)
        save_file(state, new.bundle / WEIGHTS)
        info = info_of(new.bundle)
        lineage = info["lineage"] | {RUN_TAG: new.run_id, "rakuten.run_id": new.uuid}
        update_info(
            new.bundle, lineage=lineage, hashes=info["hashes"] | {WEIGHTS: sha256(new.bundle / WEIGHTS)}
        )
        config = self.config().tracking
        tracked = start_run(
            config, new.run_id, {"rakuten.run_id": new.uuid}, new.checkpoints / "tracking.jsonl"
        )
        tracked.log_artifacts(new.bundle, "bundle")
        tracked.finish("FINISHED")
        new.with_state("finished")
        return new.run_id


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def info_of(bundle: Path) -> dict[str, Any]:
    info: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
    return info


def shuffle_answers(state: dict[str, torch.Tensor]) -> None:
    """Each answer becomes that of another class: as bad as it can be."""
    for name in last_layer(state):
        state[name] = state[name].roll(1, dims=0).contiguous()


def last_layer(state: dict[str, torch.Tensor]) -> list[str]:
    return [name for name, value in state.items() if value.shape[:1] == (27,)]


@pytest.fixture(scope="module")
def trained(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> tuple[House, str, str]:
    """A house with a poor run and a good one."""
    house = House(tmp_path_factory.mktemp("house"), shop)
    poor = house.train("trainer.max_epochs=1", "model.text.lr=1e-5", "optim.lr=1e-6")
    good = house.train("trainer.max_epochs=14", "trainer.patience=14")
    return house, poor, good


@pytest.fixture
def house(trained: tuple[House, str, str]) -> House:
    """Nobody is champion yet."""
    house = trained[0]
    if house.client.search_registered_models("name = 'rakuten'"):
        house.client.delete_registered_model("rakuten")
    for name in ("promotions.jsonl", "champion.json"):
        (house.outputs / name).unlink(missing_ok=True)
    return house


@pytest.mark.slow
def test_better_is_accepted_equal_and_worse_are_refused(
    house: House, trained: tuple[House, str, str]
) -> None:
    _, poor, good = trained
    assert house.promote(f"run={poor}") == "1"
    assert house.promote(f"run={good}") == "2"
    assert "margin" in str([check["name"] for check in house.decisions[-1]["checks"]])

    equal = house.altered(good, lambda state: None)
    worse = house.altered(good, shuffle_answers)
    for run in (equal, worse, poor):
        with pytest.raises(RefusedError, match=r"stays champion\n  margin: weighted F1") as refused:
            house.promote(f"run={run}")
        assert refused.value.exit_code == 3
        assert house.champion == "2"
    kept = [(each["run"], each["passed"], each["before"]) for each in house.decisions]
    assert kept == [
        (poor, True, None),
        (good, True, "1"),
        (equal, False, "2"),
        (worse, False, "2"),
        (poor, False, "2"),
    ]
    challenger = house.client.get_model_version_by_alias("rakuten", "challenger")
    assert str(challenger.version) == "1", "the last one that was refused"
    assert "refused: margin" in challenger.tags["rakuten.gate"]
    decision = house.decisions[-1]
    assert decision["by"]
    assert decision["at"].endswith("+00:00")
    assert decision["test"]["products"] >= 20
    run_id = house.client.get_model_version("rakuten", "2").run_id
    assert [each.path for each in house.client.list_artifacts(run_id, "promotion")]


@pytest.mark.slow
def test_the_first_has_absolute_checks_only_and_the_same_again_changes_nothing(
    house: House, trained: tuple[House, str, str]
) -> None:
    _, poor, good = trained
    with pytest.raises(
        RefusedError, match=r"there is no champion yet\n  weighted_f1: 0\.\d+ weighted F1, at least 0.9900"
    ):
        house.promote(f"run={poor}", "gate.min_weighted_f1=0.99")
    assert house.champion is None
    assert not (house.outputs / "champion.json").exists()
    house.promote(f"run={good}")
    names = {check["name"] for check in house.decisions[-1]["checks"]}
    assert names == {"test_products", "weighted_f1", "calibration", "latency", "size"}
    before = house.decisions
    assert house.promote(f"run={good}") == house.champion
    assert house.decisions == before
    assert "is the champion already" in house.told.text


@pytest.mark.slow
def test_one_ruined_class_is_refused(house: House, trained: tuple[House, str, str]) -> None:
    good = trained[2]
    house.promote(f"run={good}")

    with (house.outputs / good / "evaluation/test/per_class.csv").open(encoding="utf-8") as file:
        classes = list(csv.DictReader(file))
    index = max(range(27), key=lambda i: float(classes[i]["f1"] or 0) * int(classes[i]["support"]))

    def ruin(state: dict[str, torch.Tensor]) -> None:
        for name in last_layer(state):
            if state[name].ndim == 1:
                state[name][index] -= 1e4

    said = f"classes: the class that falls most, {classes[index]['code']} "
    with pytest.raises(RefusedError, match=said) as refused:
        house.promote(f"run={house.altered(good, ruin)}", "gate.max_class_drop=0.2")
    assert "to 0.0000" in str(refused.value)


@pytest.mark.slow
def test_rollback_returns_to_the_one_before(house: House, trained: tuple[House, str, str]) -> None:
    _, poor, good = trained
    with pytest.raises(RakutenError, match="no champion"):
        house.promote("rollback=true")
    house.promote(f"run={poor}")
    with pytest.raises(RakutenError, match="no earlier champion"):
        house.promote("rollback=true")
    house.promote(f"run={good}")
    assert house.promote("rollback=true") == "1"
    assert house.decisions[-1]["kind"] == "rollback"
    with pytest.raises(RakutenError, match="no earlier champion"):
        house.promote("rollback=true")
    assert house.promote(f"run={good}") == "2", "judged again, and back"


@pytest.mark.slow
def test_what_cannot_be_judged_is_refused_and_moves_nothing(
    house: House, trained: tuple[House, str, str], tmp_path: Path
) -> None:
    _, poor, good = trained
    house.promote(f"run={poor}")
    data = {name: str(tmp_path / name) for name in ("root", "interim_dir", "processed_dir", "cache_dir")}
    config = house.config()
    gone = replace(config.data, demo=None, **{name: Path(path) for name, path in data.items()})
    with (
        pytest.raises(DataError, match="does not exist"),
        decide(replace(config, run=good, data=gone), Told()),
    ):
        pass
    with pytest.raises(DataError, match="may have learned from the test products"):
        house.promote(f"run={good}", "data.split.salt=5")
    with pytest.raises(RakutenError, match="no run, bundle or version called 'nobody'"):
        house.promote("run=nobody")
    torn = house.altered(good, lambda state: None)
    (house.outputs / torn / "bundle" / WEIGHTS).write_bytes(b"torn")
    with pytest.raises(BundleError, match="torn or changed"):
        house.promote(f"run={torn}")
    tag = f"tags.`{RUN_TAG}` = '{good}'"
    [run] = house.client.search_runs([house.client.get_experiment_by_name("rakuten").experiment_id], tag)
    house.client.set_terminated(run.info.run_id, "KILLED")
    try:
        with pytest.raises(RakutenError, match="is KILLED"):
            house.promote(f"run={good}")
    finally:
        house.client.set_terminated(run.info.run_id, "FINISHED")
    assert house.champion == "1"


@pytest.mark.slow
def test_two_at_once_are_decided_one_after_the_other(house: House, trained: tuple[House, str, str]) -> None:
    _, poor, good = trained
    commands = [
        [sys.executable, str(ROOT / "scripts/promote.py"), f"run={run}", *LENIENT, *house.places]
        for run in (poor, good)
    ]
    both = [
        subprocess.Popen(
            each, env=ENVIRONMENT, cwd=house.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for each in commands
    ]
    ends = [(process.communicate(timeout=300), process.returncode) for process in both]
    assert ends[1][1] == 0, ends[1][0]
    # Whoever came first, the good one is champion, and who came second was judged against the first.
    assert ends[0][1] in (0, 3), ends[0][0]
    first, second = house.decisions
    assert second["before"] == (first["version"] if first["passed"] else None)
    assert (
        published(house.outputs).version
        == house.champion
        == house.decisions[[each["run"] for each in house.decisions].index(good)]["version"]
    )
