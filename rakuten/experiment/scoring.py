"""A bundle's scores and reports: those of the run that made it, and of any side of a catalogue later."""

import json
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from rich.console import Console

from rakuten.config import DataConfig, EvaluateConfig, ModelConfig, TrainConfig
from rakuten.config_io import to_plain
from rakuten.data.features import Features, load_features
from rakuten.data.files import atomic_write
from rakuten.data.loader import BatchDataset, make_loader
from rakuten.errors import DataError
from rakuten.experiment.device import best_device, device_of
from rakuten.experiment.evaluate import TOKEN_BUDGET, evaluate, predict_rows
from rakuten.experiment.metrics import score
from rakuten.experiment.runs import RunFolder, newest_bundle
from rakuten.experiment.sides import Rows, side_rows
from rakuten.experiment.summary import SideScores, score_table
from rakuten.experiment.tracking.delivery import attach
from rakuten.experiment.tracking.journal import JOURNAL
from rakuten.experiment.tracking.store import RUN_TAG
from rakuten.model.bundle import Predictor
from rakuten.model.bundle_files import update_info

METRICS = "metrics.json"
LATENCY_PRODUCTS = 50


def score_run(
    config: TrainConfig, features: Features, rows: Rows, run: RunFolder, tags: dict[str, str]
) -> dict[str, SideScores]:
    """Reports for val and test, metrics.json, and the scores inside the bundle: {side: {modality: {metric: value}}}."""
    predictor = Predictor.load(run.bundle, device_of(config.trainer))
    scores = {
        side: evaluate(
            predictor,
            features,
            side_of,
            run.evaluation / side,
            title=f"{config.data.name} · {config.model.name} · {side}",
            facts={"run": run.run_id, "products": str(len(side_of)), "seed": str(config.seed)} | tags,
            num_resamples=config.bootstrap,
            seed=config.seed,
            limits=best_possible(config.data, features, side_of),
        )
        for side, side_of in (("val", rows.val), ("test", rows.test))
    }
    with atomic_write(run.evaluation / METRICS) as path:
        path.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    update_info(run.bundle, metrics=scores)
    return scores


def measure(
    config: TrainConfig, features: Features, rows: NDArray[np.int64], run: RunFolder
) -> dict[str, float]:
    """The run's bundle on these rows: its scores, and what it costs in `latency_ms` and `size_mb`."""
    predictor = Predictor.load(run.bundle, device_of(config.trainer))
    scores = score(predict_rows(predictor, features, rows))
    scored = {name: value for name, value in scores.items() if value is not None}
    with atomic_write(run.evaluation / METRICS) as path:
        path.write_text(json.dumps({"val": {"both": scores}}, indent=1) + "\n", encoding="utf-8")
    update_info(run.bundle, metrics={"val": {"both": scores}})
    return scored | {"latency_ms": latency_ms(predictor, features, rows), "bundle_mb": size_mb(run.bundle)}


def size_mb(bundle: Path) -> float:
    """Size on disk, 10^6 bytes."""
    return sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file()) / 1e6


def latency_ms(predictor: Predictor, features: Features, rows: NDArray[np.int64]) -> float:
    """Median time of one product through the model, its text tokenized and its photo decoded already."""
    times_s = []
    for batch in make_loader(
        BatchDataset(features, rows[:LATENCY_PRODUCTS]), batch_size=1, token_budget=TOKEN_BUDGET
    ):
        started = time.perf_counter()
        predictor.probabilities(batch)  # an array: a GPU has finished by then
        times_s.append(time.perf_counter() - started)
    return 1000 * statistics.median(times_s)


def evaluate_bundle(config: EvaluateConfig, console: Console) -> Path:
    """Score a bundle on one side of a catalogue; the path of the report page.

    `val` is the one that the bundle's own training drew.

    Raises:
        RakutenError: no bundle, one trained for other codes, nothing on that side, or a file to attach that is not there.
    """
    if missing := [str(path) for path in config.attach if not path.is_file()]:
        raise DataError(f"no file to attach at {', '.join(missing)}")
    bundle = config.bundle or newest_bundle(config.outputs_dir)
    predictor = Predictor.load(bundle, best_device())
    check_codes(predictor, config.data)
    model = TypeAdapter(ModelConfig).validate_python(predictor.info["model"])
    features = load_features(config.data, model, console, predictor.preprocessor.text_encoder)
    lineage = predictor.info["lineage"]
    if (
        lineage["split"] != to_plain(config.data.split)
        and lineage["data_fingerprint"] != features.fingerprint
    ):
        console.print(
            "[yellow]the bundle was trained on another split or version of the data: it may have learned from"
            " products that it is judged on here[/yellow]"
        )
    rows = side_rows(features, config.data.split, lineage["seed"], config.split)
    folder = config.output or bundle.parent / "evaluation" / config.split
    title = f"{config.data.name} · {model.name} · {config.split}"
    limits = best_possible(config.data, features, rows)
    scores = evaluate(
        predictor,
        features,
        rows,
        folder,
        title=title,
        facts={"bundle": str(bundle), "products": str(len(rows))} | {k: str(v) for k, v in lineage.items()},
        num_resamples=config.bootstrap,
        seed=config.seed,
        limits=limits,
        batch_size=config.batch_size,
    )
    console.print(score_table(f"{title} · {len(rows):,} products", scores, limits))
    if config.attach:
        run = lineage[RUN_TAG]
        journal = config.outputs_dir / run / "checkpoints" / JOURNAL
        attach(config.tracking, run, lineage["tracking_id"], config.attach, journal, console)
    return folder / "report.html"


def check_codes(predictor: Predictor, data: DataConfig) -> None:
    """
    Raises:
        DataError: the bundle answers with other codes than the catalogue's.
    """
    if predictor.labels.codes != data.labels.codes:
        raise DataError(
            f"the bundle answers with other codes than those of the catalogue {data.name!r}",
            expected=", ".join(map(str, predictor.labels.codes[:5])) + ", ...",
            got=", ".join(map(str, data.labels.codes[:5])) + ", ...",
            fix="name the catalogue that it was trained on: data=NAME data.root=PATH",
        )


def best_possible(data: DataConfig, features: Features, rows: NDArray[np.int64]) -> dict[str, float] | None:
    """The Bayes accuracy on these products by modality, where the catalogue is generated."""
    if data.demo is None:
        return None
    from rakuten.data.demo import bayes_limits

    return bayes_limits(data, features.table["index"].to_numpy()[rows].tolist())
