"""A generated catalogue in the real one's raw layout, whose best possible score is known exactly.

Beside the raw tables and photos lie `bayes.csv` (the Bayes rule's answer to each labelled product),
`bayes.json` (its accuracy over all of them) and `demo.json` (what they were made from). Training reads none
of these. The model that everything is drawn from is in `rakuten.data.demo_world`.
"""

import csv
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import track

from rakuten.config import DataConfig, DemoConfig
from rakuten.data import demo_words
from rakuten.data.demo_catalogue import (
    LABELLED,
    UNLABELLED,
    Names,
    Products,
    class_counts,
    draw_names,
    draw_products,
    write_photos,
    write_products,
)
from rakuten.data.demo_world import World, build_world
from rakuten.data.labels import Code
from rakuten.errors import DataError

GENERATOR_VERSION = 1
SETTINGS_NAME, LIMITS_NAME, PREDICTIONS_NAME = "demo.json", "bayes.json", "bayes.csv"
MODALITIES = ("both", "text", "image")


@dataclass(frozen=True)
class BayesAnswer:
    """The Bayes rule's answer to one product."""

    code: Code  # the most probable written label
    limit: float  # its posterior probability: the chance that this answer is right


def ensure_demo(config: DataConfig, *, console: Console | None = None) -> None:
    """Writes the catalogue to `config.root` unless one made from the same settings is there.

    Nothing is seen of a catalogue before it is whole: it grows in a folder beside `config.root` and takes its
    place at the end. Some 1,000 products of 96 px a second.

    Raises:
        DataError: `config` has no demo settings or other codes than the generator's; the root is `data/raw`,
            a file, or a folder that holds what this generator did not write.
    """
    demo, root = _checked(config)
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_name(f".{root.name}.lock")):
        if _is_current(root, config):
            return
        _refuse_foreign(root, config)
        partial, old = root.with_name(f".{root.name}.partial"), root.with_name(f".{root.name}.old")
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir()
        _generate(partial, config, demo, console)
        if root.exists():
            root.replace(old)
        partial.replace(root)
        shutil.rmtree(old, ignore_errors=True)


def bayes_predictions(config: DataConfig) -> dict[str, dict[str, BayesAnswer]]:
    """Product index -> modality ("both", "text" or "image") -> what the Bayes rule answers.

    Raises:
        DataError: no generated catalogue lies at `config.root`.
    """
    path = config.root / PREDICTIONS_NAME
    if not path.is_file():
        raise DataError(
            f"no generated catalogue at {config.root}", expected=path, fix="generate it: data=demo"
        )
    with path.open(encoding="utf-8", newline="") as file:
        return {row["index"]: _answers(row, config) for row in csv.DictReader(file)}


def _answers(row: dict[str, str], config: DataConfig) -> dict[str, BayesAnswer]:
    code_of = {str(code): code for code in config.codes}
    return {m: BayesAnswer(code_of[row[f"{m}_code"]], float(row[f"{m}_limit"])) for m in MODALITIES}


def bayes_limits(config: DataConfig, indices: Iterable[str]) -> dict[str, float]:
    """Expected accuracy of the Bayes rule on the labelled products `indices`, for "both", "text" and "image".

    No classifier that judges each product by itself can expect more on them.

    Raises:
        DataError: no generated catalogue is there, or an index is not one of its labelled products.
    """
    answers, indices = bayes_predictions(config), list(map(str, indices))
    unknown = [index for index in indices if index not in answers]
    if unknown or not indices:
        raise DataError(
            "no Bayes limit for these products",
            expected=f"indices of {config.root}",
            got=unknown[:5] or "none",
        )
    return {m: float(np.mean([answers[index][m].limit for index in indices])) for m in MODALITIES}


def _checked(config: DataConfig) -> tuple[DemoConfig, Path]:
    if config.demo is None:
        raise DataError("the catalogue has no demo settings", fix="use data=demo")
    if set(config.codes) != set(demo_words.CLASS_SIZES):
        raise DataError(
            "the demo generator has words for its own codes only",
            expected=f"data.codes with {sorted(demo_words.CLASS_SIZES)}",
            got=sorted(config.codes, key=str),
        )
    root = config.root.resolve()
    if any(folder.parts[-2:] == ("data", "raw") for folder in (root, *root.parents)):
        raise DataError(
            "data/raw is for real data; the generator does not write there",
            got=root,
            fix="data.root=data/demo",
        )
    return config.demo, root


def _settings(config: DataConfig) -> Any:
    decisive = {"demo", "columns", "files", "encoding", "codes"}
    made_from = TypeAdapter(DataConfig).dump_python(config, mode="json", include=decisive)
    return json.loads(json.dumps({"generator_version": GENERATOR_VERSION, **made_from}))


def _read_settings(root: Path) -> Any:
    try:
        return json.loads((root / SETTINGS_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _own_paths(root: Path, config: DataConfig) -> list[Path]:
    names = (config.files.x_train[0], config.files.y_train[0], config.files.x_test[0],
             config.files.images_train, config.files.images_test)  # fmt: skip
    return [root / name for name in (*names, PREDICTIONS_NAME, LIMITS_NAME, SETTINGS_NAME)]


def _is_current(root: Path, config: DataConfig) -> bool:
    whole = all(path.exists() for path in _own_paths(root, config))
    return whole and bool(_read_settings(root) == _settings(config))


def _refuse_foreign(root: Path, config: DataConfig) -> None:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    fix = "give data.root a folder of its own"
    if not isinstance(settings := _read_settings(root), dict) or "generator_version" not in settings:
        raise DataError(f"{root} is not empty and was not made by the demo generator", fix=fix)
    own = {path.relative_to(root).parts[0] for path in _own_paths(root, config)}
    foreign = sorted(path.name for path in root.iterdir() if path.name not in own)
    if foreign:
        raise DataError(f"{root} holds files that the demo generator did not write", got=foreign[:5], fix=fix)


def _generate(root: Path, config: DataConfig, demo: DemoConfig, console: Console | None) -> None:
    codes = config.labels.codes
    counts = class_counts(codes, demo.num_products)
    world = build_world(codes, counts / counts.sum(), demo.label_noise)
    rng = np.random.default_rng([demo.seed, 4])
    labelled = rng.permutation(np.repeat(np.arange(len(codes)), counts))
    unlabelled = rng.choice(len(codes), demo.num_unlabelled, p=world.prior)
    train = draw_products(world, labelled, LABELLED, demo.seed)
    test = draw_products(world, unlabelled, UNLABELLED, demo.seed)
    train_names, test_names = draw_names(demo)
    for products, names in ((train, train_names), (test, test_names)):
        write_products(root, config, world, products, names, demo.seed)
        photos = write_photos(root, config, demo, products, names)
        title = "Labelled photos" if products is train else "Unlabelled photos"
        for _ in track(photos, title, total=len(names.index), console=console, disable=console is None):
            pass
    _write_bayes(root, world, train, train_names, codes)
    (root / SETTINGS_NAME).write_text(json.dumps(_settings(config), indent=2), encoding="utf-8")


def _write_bayes(root: Path, world: World, train: Products, names: Names, codes: tuple[Code, ...]) -> None:
    words, symbols = train.word_counts(world), train.symbol_counts()
    no_words, no_symbols = np.zeros_like(words), np.zeros_like(symbols)
    seen = {"both": (words, symbols), "text": (words, no_symbols), "image": (no_words, symbols)}
    posterior = {modality: world.posterior(*given) for modality, given in seen.items()}
    answer = {modality: prob.argmax(axis=1) for modality, prob in posterior.items()}
    with (root / PREDICTIONS_NAME).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", *(f"{m}_{field}" for m in MODALITIES for field in ("code", "limit"))])
        for row, index in enumerate(names.index):
            best = ((codes[answer[m][row]], f"{posterior[m][row].max():.6f}") for m in MODALITIES)
            writer.writerow([index, *(field for pair in best for field in pair)])
    limits = {
        "limits": {m: round(float(posterior[m].max(axis=1).mean()), 6) for m in MODALITIES},
        "realised": {m: round(float((answer[m] == train.labels).mean()), 6) for m in MODALITIES},
        "label_noise": world.label_noise,
        "largest_posterior_of_one_word": round(world.word_bound, 6),
        "largest_posterior_of_one_symbol": round(world.symbol_bound, 6),
    }
    (root / LIMITS_NAME).write_text(json.dumps(limits, indent=2), encoding="utf-8")
