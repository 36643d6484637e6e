"""Who is champion: a challenger judged by the gate, the alias that moves when it passes, and the way back.

MLflow's alias `champion` is the truth. Each decision is kept with when, who, why and figures: a line of
outputs/promotions.jsonl, and an artifact of the challenger's run.
"""

import getpass
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import TypeAdapter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rakuten.config import ModelConfig
from rakuten.config.promotion import PromoteConfig
from rakuten.config_io import to_plain
from rakuten.data.features import Features, load_features
from rakuten.data.split import TEST
from rakuten.errors import DataError, RakutenError
from rakuten.experiment.device import best_device
from rakuten.experiment.evaluate import predict_rows
from rakuten.experiment.gate import Check, Judged, check_against, check_alone
from rakuten.experiment.graphs import Labelled, add_graphs
from rakuten.experiment.lineage import UUID_TAG
from rakuten.experiment.locate import Located, bundle_of, locate
from rakuten.experiment.scoring import check_codes, latency_ms, size_mb
from rakuten.experiment.tracking.registry import BUNDLE, CHALLENGER, CHAMPION, REPLACED_TAG, Registry, Version
from rakuten.model.bundle import Predictor

DECISIONS = "promotions.jsonl"  # below outputs_dir
NUM_COMPARED: Final = 1_000  # products that tell what 8 bits cost
_DECISION_TAG = "rakuten.gate"  # of a version: passed or refused, and when


class RefusedError(RakutenError):
    """The challenger did not pass the gate; each check that failed is named with its figures."""

    exit_code = 3


@dataclass(frozen=True)
class Champion:
    """The bundle that is to be served."""

    model: str
    version: str
    run_id: str  # MLflow's
    uuid: str | None
    bundle: Path


@dataclass(frozen=True)
class Decision:
    """What was decided, and on which grounds."""

    kind: Literal["promotion", "rollback"]
    passed: bool
    at: str  # ISO 8601, UTC
    by: str
    model: str
    version: str  # that was judged, or went back to
    before: str | None  # the champion until then
    run: str
    checks: list[Check]
    test: dict[str, Any]  # on which products

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]


@contextmanager
def decide(config: PromoteConfig, console: Console) -> Iterator[Champion]:
    """The champion after this decision, to be published inside the block: one decision at a time on this machine.

    Raises:
        RefusedError: the challenger does not pass. The decision is recorded all the same, and the champion stays.
        RakutenError: no such run, no test products, nothing to go back to, or MLflow is away.
    """
    config.outputs_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(config.outputs_dir / ".promotion.lock"):
        registry = Registry(config.tracking, config.registered_model)
        yield (
            _roll_back(config, registry, console) if config.rollback else _promote(config, registry, console)
        )


def _promote(config: PromoteConfig, registry: Registry, console: Console) -> Champion:
    found = locate(config.run, config.outputs_dir, registry)
    if found.run_id is None:
        raise RakutenError(
            f"MLflow has no run {found.run_name}",
            expected="a run whose record and bundle are in the tracking store",
            fix="scripts/doctor.py deliver=true, or tracking=... where it was recorded",
        )
    _require_finished(registry, found.run_id, found.run_name)
    champion = registry.with_alias(CHAMPION)
    if champion is not None and champion.run_id == found.run_id:
        console.print(f"run {found.run_name} is the champion already, version {champion.number}")
        _prepare(config, found, found.run_id, registry, console)
        return _champion(found, champion, registry)
    version = registry.register(found.run_id)
    registry.set_alias(CHALLENGER, version.number)
    checks, test = _judge(config, found, champion, registry, console)
    decision = _decided("promotion", config, version, champion, found.run_name, checks, test)
    _record(decision, config, registry, found.run_id)
    console.print(_table(decision))
    if decision.failed:
        raise _refused(decision)
    _prepare(config, found, found.run_id, registry, console)
    _move(registry, version, champion)
    registry.drop_alias(CHALLENGER)
    console.print(f"version {version.number} is champion" + (f" after {champion.number}" if champion else ""))
    return _champion(found, version, registry)


def _roll_back(config: PromoteConfig, registry: Registry, console: Console) -> Champion:
    champion = registry.with_alias(CHAMPION)
    if champion is None or champion.replaced is None:
        lacking = "champion" if champion is None else "earlier champion to go back to"
        raise RakutenError(f"the model {registry.name!r} has no {lacking}")
    version = registry.version(champion.replaced)
    found = bundle_of(version.run_id, version, config.outputs_dir, registry)
    _record(
        _decided("rollback", config, version, champion, found.run_name, [], {}),
        config,
        registry,
        version.run_id,
    )
    _prepare(config, found, version.run_id, registry, console)
    registry.set_alias(CHAMPION, version.number)
    console.print(f"version {champion.number} goes, {version.number} is champion again")
    return _champion(found, version, registry)


def _judge(
    config: PromoteConfig, found: Located, champion: Version | None, registry: Registry, console: Console
) -> tuple[list[Check], dict[str, Any]]:
    challenger, test, predictor = _answers(config, found, console)
    checks = check_alone(challenger, config.gate)
    if champion is not None:
        old = bundle_of(champion.run_id, champion, config.outputs_dir, registry)
        other, _, _ = _answers(config, old, console)
        checks += check_against(challenger, other, predictor.labels, config.gate, config.seed)
    return checks, test


def _answers(
    config: PromoteConfig, found: Located, console: Console
) -> tuple[Judged, dict[str, Any], Predictor]:
    """What a bundle says of the test side, which it must not have learned from."""
    predictor = Predictor.load(found.bundle, best_device())
    features, rows = _test_side(config, found, predictor, console)
    predictions = predict_rows(predictor, features, rows, batch_size=config.batch_size)
    test = {
        "catalogue": config.data.name,
        "products": len(rows),
        "split": to_plain(config.data.split),
        "data_fingerprint": features.fingerprint,
    }
    return Judged(predictions, latency_ms(predictor, features, rows), size_mb(found.bundle)), test, predictor


def _test_side(
    config: PromoteConfig, found: Located, predictor: Predictor, console: Console
) -> tuple[Features, NDArray[np.int64]]:
    check_codes(predictor, config.data)
    _require_same_split(config, found)
    model = TypeAdapter(ModelConfig).validate_python(predictor.info["model"])
    features = load_features(config.data, model, console, predictor.preprocessor.text_encoder)
    rows = features.rows(TEST)
    if len(rows) == 0:
        raise DataError(
            f"the catalogue {config.data.name!r} has no test products", fix="a larger data.split.test"
        )
    return features, rows


def _require_same_split(config: PromoteConfig, found: Located) -> None:
    """Test products follow from their ids and these settings alone: equal ones mean that none was trained on."""
    own, asked = found.info["lineage"]["split"], to_plain(config.data.split)
    names = ("test", "salt", "near_duplicate")
    if {name: own[name] for name in names} != {name: asked[name] for name in names}:
        raise DataError(
            f"run {found.run_name} was trained on another split: it may have learned from the test products",
            expected=", ".join(f"data.split.{name}={asked[name]}" for name in names),
            got=", ".join(f"{name}={own[name]}" for name in names),
            fix="judge with the split that it was trained on, or train it again",
        )


def _require_finished(registry: Registry, run_id: str, name: str) -> None:
    status = registry.run_status(run_id)
    if status != "FINISHED":
        fix = "resume=true, or another run="
        raise RakutenError(f"run {name} is {status}", expected="a run that trained to its end", fix=fix)
    if BUNDLE not in registry.artifacts(run_id):
        fix = "train it by itself, with the command that the study ends with"
        raise RakutenError(f"run {name} has no bundle in MLflow, as a study's trials have none", fix=fix)


def _prepare(
    config: PromoteConfig, found: Located, run_id: str, registry: Registry, console: Console
) -> None:
    """All that is served of it, before the alias moves: who follows that fetches it at once."""
    if config.onnx:
        labelled = partial(_labelled, config, found, console)
        add_graphs(found.bundle, run_id, registry, console, int8=config.int8, labelled=labelled)


def _labelled(config: PromoteConfig, found: Located, console: Console) -> Labelled:
    """Some of the products that it was judged on."""
    features, rows = _test_side(config, found, Predictor.load(found.bundle), console)
    taken = np.random.default_rng(config.seed).permutation(rows)[:NUM_COMPARED]
    return [features.store[row] for row in taken.tolist()], features.labels[taken]


def _move(registry: Registry, version: Version, champion: Version | None) -> None:
    """The alias, unless somebody on another machine moved it while this challenger was judged."""
    now = registry.with_alias(CHAMPION)
    if (now and now.number) != (champion and champion.number):
        raise RakutenError(
            "another champion was chosen meanwhile", fix="promote again: it is judged against that one"
        )
    registry.tag(version.number, {REPLACED_TAG: champion.number if champion else ""})
    registry.set_alias(CHAMPION, version.number)


def _decided(
    kind: Literal["promotion", "rollback"],
    config: PromoteConfig,
    version: Version,
    champion: Version | None,
    run: str,
    checks: list[Check],
    test: dict[str, Any],
) -> Decision:
    return Decision(
        kind=kind,
        passed=all(check.passed for check in checks),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        by=f"{getpass.getuser()}@{socket.gethostname()}",
        model=config.registered_model,
        version=version.number,
        before=champion.number if champion else None,
        run=run,
        checks=checks,
        test=test,
    )


def _record(decision: Decision, config: PromoteConfig, registry: Registry, run_id: str) -> None:
    """Before anything moves: a decision without its record would be a silent one."""
    text = json.dumps(asdict(decision), ensure_ascii=False)
    with (config.outputs_dir / DECISIONS).open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    name = f"{decision.kind}-{decision.at.replace(':', '')}.json"
    registry.log_text(run_id, json.dumps(asdict(decision), ensure_ascii=False, indent=1), f"promotion/{name}")
    verdict = "passed" if decision.passed else "refused: " + ", ".join(each.name for each in decision.failed)
    registry.tag(decision.version, {_DECISION_TAG: f"{decision.kind} {verdict}, {decision.at}"})


def _refused(decision: Decision) -> RefusedError:
    reasons = "\n".join(f"  {check.name}: {check.text}" for check in decision.failed)
    stays = f"version {decision.before} stays champion" if decision.before else "there is no champion yet"
    return RefusedError(f"version {decision.version} is refused, {stays}\n{reasons}")


def _champion(found: Located, version: Version, registry: Registry) -> Champion:
    uuid = found.info["lineage"].get(UUID_TAG)
    return Champion(registry.name, version.number, version.run_id, uuid, found.bundle)


def _table(decision: Decision) -> Table:
    against = f" against version {decision.before}" if decision.before else ""
    title = f"\nversion {decision.version}{against} · {decision.test['products']:,} test products"
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    for check in decision.checks:
        mark = "[green]passed[/green]" if check.passed else "[red]failed[/red]"
        table.add_row(mark, check.name, escape(check.text))
    return table
