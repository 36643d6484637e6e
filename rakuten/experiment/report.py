"""The evaluation report: one folder with the scores as JSON and CSV, the figures, and one page for people."""

import base64
import csv
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from rakuten.data.labels import LabelSet
from rakuten.errors import DataError
from rakuten.experiment.metrics import LEVEL, METRICS, Interval, Predictions, bootstrap_intervals, score
from rakuten.experiment.plots import confusion_png, modalities_png, per_class_png, reliability_png
from rakuten.experiment.tables import ClassRow, calibration_bins, confusion_matrix, per_class_table

MODALITIES = {"both": "Text and image", "text": "Text only", "image": "Image only"}
NUM_CONFUSIONS = 8
FILES = (
    *("report.json", "report.html", "per_class.csv", "predictions.csv"),
    *("confusion_matrix.png", "reliability.png", "per_class.png", "modalities.png"),
)
# What people read: name, meaning, whether more is better.
METRIC_TEXTS = {
    "weighted_f1": ("Weighted F1", "mean over classes of F1, each weighted by its rows", True),
    "macro_f1": ("Macro F1", "mean over classes of F1, each counted once", True),
    "accuracy": ("Accuracy", "share of rows in the right class", True),
    "top3": ("Top 3", "share of rows whose class is among the first three", True),
    "log_loss": ("Log-loss", "mean surprise at the true class, in nats", False),
    "ece": ("Calibration error", "mean gap between confidence and share right", False),
}


class _Confusion(NamedTuple):
    """`num_rows` of the `support` rows of class `true` were put into class `predicted`."""

    num_rows: int
    support: int
    true: str
    predicted: str


def write_report(
    folder: Path,
    by_modality: Mapping[str, Predictions],
    labels: LabelSet,
    *,
    title: str,
    facts: Mapping[str, str],
    limits: Mapping[str, float] | None,
    num_resamples: int,
    seed: int,
) -> dict[str, dict[str, float | None]]:
    """Score the predictions and write FILES into `folder`; report.html holds all of it in one file.

    An earlier report in `folder` is replaced as a whole, at the end: a killed write leaves none that looks
    complete. Tables and figures are about the first of MODALITIES that has rows; no file holds a product's text.

    Args:
        by_modality: predictions by key of MODALITIES; at least one. Those without rows are shown as such.
        facts: what to print about the run, in order (run id, data fingerprint, commit, ...).
        limits: best possible accuracy by modality, where it is known (a generated catalogue).
        num_resamples: draws behind each 95 % interval; 0 for no intervals.

    Returns:
        METRICS by modality, in the order of MODALITIES; None where a modality has no rows.

    Raises:
        DataError: no modality has a row, or `folder` holds something that is not a report's.
        ValueError: unknown modality, or predictions and labels have different numbers of classes.
    """
    folder = folder.absolute()
    _refuse_foreign(folder)
    ordered, headline = _ordered(by_modality, labels)
    scores = {key: score(predictions) for key, predictions in ordered.items()}
    context: dict[str, Any] = {
        "title": title,
        "headline": headline,
        "num_rows": {key: len(predictions) for key, predictions in ordered.items()},
        "scores": scores,
        "intervals": {key: bootstrap_intervals(p, num_resamples, seed) for key, p in ordered.items()},
        "limits": {key: limits[key] for key in ordered if key in limits} if limits else {},
        "facts": dict(facts),
        "num_resamples": num_resamples,
        "seed": seed,
        "level": LEVEL,
    }
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write_files(partial, ordered[headline], labels, context)
        _swap(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return scores


def _ordered(by_modality: Mapping[str, Predictions], labels: LabelSet) -> tuple[dict[str, Predictions], str]:
    """The predictions in the order of MODALITIES, and the first key that has rows."""
    unknown = set(by_modality) - set(MODALITIES)
    if unknown or any(p.num_classes != len(labels) for p in by_modality.values()):
        raise ValueError(f"predictions must be of {len(labels)} classes, by modality; unknown: {unknown}")
    ordered = {key: by_modality[key] for key in MODALITIES if key in by_modality}
    headline = next((key for key, predictions in ordered.items() if len(predictions)), None)
    if headline is None:
        raise DataError(
            "there is nothing to report on",
            expected="at least one row with a known class",
            got="0 rows",
            fix="evaluate another split, or raise its share (data.split.test, calib or val)",
        )
    return ordered, headline


def _write_files(
    folder: Path, predictions: Predictions, labels: LabelSet, context: Mapping[str, Any]
) -> None:
    rows = per_class_table(predictions, labels)
    figures = _figures(predictions, labels, rows, context)
    for name, png in figures.items():
        (folder / name).write_bytes(png)
    page = _page(context, rows, _top_confusions(predictions, labels), figures)
    (folder / "report.html").write_text(page, encoding="utf-8")
    _write_per_class(folder / "per_class.csv", rows)
    _write_predictions(folder / "predictions.csv", predictions, labels)
    (folder / "report.json").write_text(_as_json(context), encoding="utf-8")


def _refuse_foreign(folder: Path) -> None:
    """Swapping removes what was in the folder, so nothing but an earlier report may be there."""
    if not folder.exists():
        return
    foreign = [folder] if not folder.is_dir() else [p for p in folder.iterdir() if p.name not in FILES]
    if foreign:
        raise DataError(
            f"cannot write the report to {folder}",
            expected="a new or empty folder, or an earlier report to replace",
            got=f"{foreign[0].name}, which is no part of a report",
            fix="give the report a folder of its own",
        )


def _swap(partial: Path, folder: Path) -> None:
    """Put `partial` in the place of `folder`; in between, and only there, neither is."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _figures(
    predictions: Predictions, labels: LabelSet, rows: list[ClassRow], context: Mapping[str, Any]
) -> dict[str, bytes]:
    scores = context["scores"]
    own = scores[context["headline"]]
    return {
        "modalities.png": modalities_png(scores, context["intervals"], context["limits"], MODALITIES),
        "confusion_matrix.png": confusion_png(confusion_matrix(predictions), labels),
        "per_class.png": per_class_png(rows, labels, own["macro_f1"]),
        "reliability.png": reliability_png(calibration_bins(predictions), own["ece"]),
    }


def _top_confusions(predictions: Predictions, labels: LabelSet) -> list[_Confusion]:
    """The most frequent mistakes, most frequent first; at most NUM_CONFUSIONS."""
    matrix = confusion_matrix(predictions)
    cells = [
        _Confusion(int(matrix[i, j]), int(matrix[i].sum()), labels.names[i], labels.names[j])
        for i in range(len(labels))
        for j in range(len(labels))
        if i != j and matrix[i, j]
    ]
    return sorted(cells, key=lambda cell: (-cell.num_rows, cell.support))[:NUM_CONFUSIONS]


def _page(
    context: Mapping[str, Any],
    rows: list[ClassRow],
    confusions: list[_Confusion],
    figures: Mapping[str, bytes],
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # class names and facts come from the user's files
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    inlined = {
        name.removesuffix(".png"): "data:image/png;base64," + base64.b64encode(png).decode()
        for name, png in figures.items()
    }
    template = environment.get_template("report.html.j2")
    return template.render(
        **context,
        rows=rows,
        confusions=confusions,
        figures=inlined,
        modality_names=MODALITIES,
        metric_texts=METRIC_TEXTS,
    )


def _as_json(context: Mapping[str, Any]) -> str:
    scores, intervals = context["scores"], context["intervals"]
    report = {key: context[key] for key in ("title", "headline", "facts", "num_resamples", "seed", "level")}
    report["modalities"] = {
        key: {
            "num_rows": context["num_rows"][key],
            "best_possible_accuracy": context["limits"].get(key),
            "scores": {name: _value(scores[key][name], intervals[key].get(name)) for name in METRICS},
        }
        for key in scores
    }
    return json.dumps(report, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _value(value: float | None, interval: Interval | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {"value": value, "low": low, "high": high}


def _write_per_class(path: Path, rows: list[ClassRow]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(ClassRow.__annotations__))
        writer.writeheader()
        writer.writerows(dict(row) for row in rows)


def _write_predictions(path: Path, predictions: Predictions, labels: LabelSet) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "true_code", "predicted_code", "confidence"])
        columns = (predictions.rows, predictions.labels, predictions.predicted, predictions.confidence)
        for index, true, predicted, confidence in zip(*columns, strict=True):
            writer.writerow([index, labels.codes[true], labels.codes[predicted], f"{confidence:.6f}"])
