"""The end of a run, for the person who waited for it."""

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rakuten.config import TrainConfig
from rakuten.data.features import Features
from rakuten.experiment.runs import RunFolder
from rakuten.experiment.scoring import Scores, best_possible

ROWS = {"both": "text and photo", "text": "text only", "image": "photo only"}


def print_summary(
    console: Console,
    config: TrainConfig,
    run: RunFolder,
    scores: Scores,
    features: Features,
    test: NDArray[np.int64],
) -> None:
    """Scores on test, where things are, what to type next."""
    limits = best_possible(config, features, test)
    table = Table(
        title=f"\n{config.data.name} · {config.model.name} · {len(test):,} test products",
        title_justify="left",
    )
    table.add_column("answers from")
    for name in (
        "weighted F1",
        "macro F1",
        "accuracy",
        *(["best possible", "share"] if limits else []),
        "ECE",
    ):
        table.add_column(name, justify="right")
    for modality, values in scores["test"].items():
        f1, macro, accuracy, ece = (values[k] for k in ("weighted_f1", "macro_f1", "accuracy", "ece"))
        if f1 is None or macro is None or accuracy is None or ece is None:
            continue
        cells = [f"{f1:.4f}", f"{macro:.4f}", f"{accuracy:.4f}"]
        if limits:
            cells += [f"{limits[modality]:.4f}", f"{accuracy / limits[modality]:.1%}"]
        table.add_row(ROWS[modality], *cells, f"{ece:.3f}", style="bold" if modality == "both" else None)
    console.print(table)
    data = "" if config.data.name == "demo" else f" data={config.data.name}"
    console.print(f"report   {run.evaluation / 'test' / 'report.html'}")
    console.print(f"bundle   {run.bundle}")
    console.print(f"next     python scripts/predict.py bundle={run.bundle}{data}")
    if config.tracking.kind != "off":
        console.print(f"         mlflow ui --backend-store-uri {config.tracking.uri}")
