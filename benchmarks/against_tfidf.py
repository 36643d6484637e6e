"""Weighted F1 of `experiment=small_cpu` against TF-IDF + LinearSVC, trained and tested on the same splits.

    python benchmarks/against_tfidf.py data=rakuten data.root=PATH/TO/CATALOGUE

Trains both once per salt 1 to 5 (scripts/train.py as anyone would type it), compares their answers on each test split, and
draws a paired bootstrap over products, one draw for all splits. The baseline: words, 1-2 grams, sublinear, accents
folded, C = 1; trained on our training rows, and once more on train + val + calib, which it has no other use for.
"""

import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from rakuten.cli import compose
from rakuten.data.features import load_features
from rakuten.data.fit_encoder import joined
from rakuten.experiment.sides import split_rows

SALTS = (1, 2, 3, 4, 5)
NUM_RESAMPLES = 1000
ROOT = Path(__file__).parents[1]


def svc() -> Pipeline:
    return make_pipeline(_tfidf(None), LinearSVC(C=1))


def replaced() -> Pipeline:
    """The pipeline that this project replaces: 20,000 words and pairs, logistic regression."""
    return make_pipeline(_tfidf(20_000), LogisticRegression(max_iter=1000))


def _tfidf(max_features: int | None) -> TfidfVectorizer:
    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, strip_accents="unicode", max_features=max_features
    )


def run_salt(overrides: list[str], salt: int) -> dict[str, np.ndarray]:
    """Labels and answers on one test split, (N,) each, by name; `row` numbers the catalogue's products."""
    overrides = ["experiment=small_cpu", *overrides, f"data.split.salt={salt}", "bootstrap=0"]
    started = time.monotonic()
    command = [sys.executable, str(ROOT / "scripts/train.py"), *overrides]
    bundle = Path(
        subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")[-2]
    )
    seconds = time.monotonic() - started
    config = compose("train", overrides)
    features = load_features(config.data, config.model)
    rows = split_rows(features, config.data.split, config.seed)
    texts = np.array(joined(features.table["designation"], features.table["description"]), dtype=object)
    labels = features.labels
    generous = np.concatenate([rows.train, rows.val, rows.calib])
    photos = features.store.photos
    return {
        "row": rows.test,
        "seconds": np.array([seconds]),
        "photo": np.zeros(len(rows.test), bool) if photos is None else photos.present[rows.test],
        "label": labels[rows.test],
        "ours": _our_answers(bundle, features.table["index"].to_numpy()[rows.test], config.data.labels.codes),
        "svc": svc().fit(texts[rows.train], labels[rows.train]).predict(texts[rows.test]),
        "svc+": svc().fit(texts[generous], labels[generous]).predict(texts[rows.test]),
        "replaced": replaced().fit(texts[generous], labels[generous]).predict(texts[rows.test]),
    }


def _our_answers(bundle: Path, indices: np.ndarray, codes: tuple[object, ...]) -> np.ndarray:
    with (bundle.parent / "evaluation/test/predictions.csv").open(encoding="utf-8") as file:
        predicted = {row["index"]: row["predicted_code"] for row in csv.DictReader(file)}
    position = {str(code): i for i, code in enumerate(codes)}
    return np.array([position[predicted[index]] for index in indices])


def weighted_f1(labels: np.ndarray, answers: np.ndarray, weights: np.ndarray) -> float:
    """Weighted F1 of products that count `weights` (N,) times each: a bootstrap draw without copying rows."""
    size = int(max(labels.max(), answers.max())) + 1
    hits = np.bincount(labels[labels == answers], weights[labels == answers], minlength=size)
    support, predicted = (np.bincount(each, weights, minlength=size) for each in (labels, answers))
    return float((support * 2 * hits / np.maximum(support + predicted, 1e-12)).sum() / weights.sum())


def mean_f1(
    splits: list[dict[str, np.ndarray]], name: str, weights: np.ndarray, part: str | None = None
) -> float:
    scores = []
    for split in splits:
        keep = np.ones(len(split["row"]), bool) if part is None else split["photo"] == (part == "photo")
        if keep.any():
            scores.append(weighted_f1(split["label"][keep], split[name][keep], weights[split["row"][keep]]))
    return float(np.mean(scores))


def main() -> None:
    console = Console(width=130)
    splits = [run_salt(sys.argv[1:], salt) for salt in SALTS]
    num_products = 1 + max(int(split["row"].max()) for split in splits)
    ones = np.ones(num_products)
    rng = np.random.default_rng(0)
    draws = [rng.multinomial(num_products, ones / num_products).astype(float) for _ in range(NUM_RESAMPLES)]
    table = Table(title=f"weighted F1 on test, mean over {len(SALTS)} splits")
    for column in ("", "all", "with photo", "without photo", "difference to ours", "95 % interval"):
        table.add_column(column, justify="right" if column else "left")
    names = {
        "ours": "experiment=small_cpu",
        "svc": "TF-IDF + LinearSVC, same rows",
        "svc+": "the same on train + val + calib",
    }
    for name, title in {**names, "replaced": "the replaced pipeline, train + val + calib"}.items():
        cells = [f"{mean_f1(splits, name, ones, part):.4f}" for part in (None, "photo", "no photo")]
        if name != "ours":
            gaps = [mean_f1(splits, "ours", draw) - mean_f1(splits, name, draw) for draw in [ones, *draws]]
            low, high = np.percentile(gaps[1:], [2.5, 97.5])
            cells += [f"{gaps[0]:+.4f}", f"[{low:+.4f}, {high:+.4f}]"]
        table.add_row(title, *cells)
    console.print(table)
    for split, salt in zip(splits, SALTS, strict=True):
        ours, theirs = (
            weighted_f1(split["label"], split[n], np.ones(num_products)[split["row"]])
            for n in ("ours", "svc")
        )
        console.print(
            f"salt {salt}: ours {ours:.4f}, LinearSVC {theirs:.4f}, {len(split['row'])} test products, {split['seconds'][0]:.0f} s"
        )


if __name__ == "__main__":
    main()
