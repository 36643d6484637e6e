"""The end of a run, for the person who waited for it."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from rakuten.config import TrainConfig
from rakuten.experiment.runs import RunFolder
from rakuten.experiment.tracking.journal import without_password

SideScores = dict[str, dict[str, float | None]]  # {both|text|image: {metric: value}}
ROWS = {"both": "text and photo", "text": "text only", "image": "photo only"}


def score_table(title: str, scores: SideScores, limits: Mapping[str, float] | None) -> Table:
    """Scores by what the model was shown, beside the best possible accuracy where that is known."""
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold")
    if limits:
        table.caption, table.caption_justify = "limit: the best possible accuracy, by Bayes' rule", "left"
    table.add_column("answers from", no_wrap=True)
    for name in (
        "weighted F1",
        "macro F1",
        "accuracy",
        *(["limit", "reached"] if limits else []),
        "ECE",
    ):
        table.add_column(name, justify="right")
    for modality, values in scores.items():
        if modality == "both" and len(scores) == 2:  # one tower: its own row says the same
            continue
        f1, macro, accuracy, ece = (values[k] for k in ("weighted_f1", "macro_f1", "accuracy", "ece"))
        if f1 is None or macro is None or accuracy is None or ece is None:
            continue
        cells = [f"{f1:.4f}", f"{macro:.4f}", f"{accuracy:.4f}"]
        if limits:
            cells += [f"{limits[modality]:.4f}", f"{accuracy / limits[modality]:.1%}"]
        table.add_row(ROWS[modality], *cells, f"{ece:.3f}", style="bold" if modality == "both" else None)
    return table


def print_summary(
    console: Console,
    config: TrainConfig,
    run: RunFolder,
    scores: SideScores,
    num_test: int,
    limits: Mapping[str, float] | None,
) -> None:
    """Scores on test, where things are, what to type next."""
    console.print(
        score_table(f"{config.data.name} · {config.model.name} · {num_test:,} test products", scores, limits)
    )
    data = "" if config.data.name == "demo" else f" data={config.data.name} data.root='{config.data.root}'"
    console.print(f"report   {run.evaluation / 'test' / 'report.html'}")
    console.print(f"bundle   {run.bundle}")
    console.print(f"next     python scripts/predict.py bundle={run.bundle}{data}")
    if config.tracking.kind != "off":
        uri = without_password(config.tracking.uri)
        ui = uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
        console.print(f"         {ui}", soft_wrap=True)
