"""A run's own scores: val and test, from the bundle that will be served."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rakuten.config import TrainConfig
from rakuten.data.features import Features
from rakuten.data.files import atomic_write
from rakuten.experiment.evaluate import evaluate
from rakuten.experiment.runs import RunFolder
from rakuten.model.bundle import Predictor, update_info

Scores = dict[str, dict[str, dict[str, float | None]]]
METRICS = "metrics.json"


def score_run(
    config: TrainConfig,
    features: Features,
    val: NDArray[np.int64],
    test: NDArray[np.int64],
    run: RunFolder,
    tags: dict[str, str],
) -> Scores:
    """Reports for val and test, metrics.json, and the scores inside the bundle: {side: {modality: {metric: value}}}."""
    predictor = Predictor.load(run.bundle)
    scores = {
        side: evaluate(
            predictor,
            features,
            rows,
            run.evaluation / side,
            title=f"{config.data.name} · {config.model.name} · {side}",
            facts={"run": run.run_id, "products": str(len(rows)), "seed": str(config.seed)} | tags,
            num_resamples=config.bootstrap,
            seed=config.seed,
            limits=best_possible(config, features, rows),
        )
        for side, rows in (("val", val), ("test", test))
    }
    write_metrics(run.evaluation / METRICS, scores)
    update_info(run.bundle, metrics=scores)
    return scores


def best_possible(
    config: TrainConfig, features: Features, rows: NDArray[np.int64]
) -> dict[str, float] | None:
    """The Bayes accuracy on these products by modality, where the catalogue is generated."""
    if config.data.demo is None:
        return None
    from rakuten.data.demo import bayes_limits

    return bayes_limits(config.data, features.table["index"].to_numpy()[rows].tolist())


def write_metrics(path: Path, scores: Scores) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
