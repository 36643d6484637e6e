"""Draws the demo catalogue's products and writes them in the raw layout."""

import csv
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rakuten.config import DataConfig, DemoConfig
from rakuten.data import demo_words
from rakuten.data.demo_render import BREAKAGES, GRID, break_photo, render_photo
from rakuten.data.demo_text import near_copy, write_fields, write_sentences, write_title
from rakuten.data.demo_world import NUM_SYMBOLS, IntArray, World, count, draw, draw_latents

TITLE_WORDS = (8, 11)  # fewest and most content words
DESCRIPTION_WORDS = (6, 12)
PHOTO_SYMBOLS = (6, 9)
NO_DESCRIPTION = 0.35
BROKEN_PHOTO = 0.005
NEAR_COPY = 0.02  # share of labelled products that are another one of the same class, listed again
INTACT = -1  # state of a photo; others are positions in BREAKAGES
LABELLED, UNLABELLED = 0, 1  # streams of randomness


@dataclass(frozen=True)
class Products:
    """Products as drawn: what their classes are and what will be seen of them. N rows."""

    stream: int  # LABELLED or UNLABELLED
    classes: IntArray  # (N,) true class
    labels: IntArray  # (N,) written class
    title: IntArray  # (N, most words), -1 where there is none
    description: IntArray  # (N, most words), -1 where there is none
    symbols: IntArray  # (N, 9), -1 for an empty cell of the photo
    photo_state: IntArray  # (N,) INTACT or a position in BREAKAGES
    copy_of: IntArray  # (N,) row whose text is listed again, its own where it is not a copy

    def word_counts(self, world: World) -> IntArray:
        """(N, V) of the whole text."""
        return count(np.hstack([self.title, self.description]), len(world.words))

    def symbol_counts(self) -> IntArray:
        """(N, S) of readable photos, zero for broken ones."""
        return np.where(self.photo_state[:, None] == INTACT, count(self.symbols, NUM_SYMBOLS), 0)


def class_counts(codes: Sequence[object], num_products: int) -> IntArray:
    """(C,) products of each class, skewed as in the real catalogue, one or more each; the rest to the largest."""
    sizes = np.array([demo_words.CLASS_SIZES[code] for code in codes])  # type: ignore[index]
    counts: IntArray = np.maximum(1, num_products * sizes // sizes.sum())
    counts[np.argmax(sizes)] += num_products - counts.sum()
    return counts


def draw_products(world: World, classes: IntArray, stream: int, seed: int) -> Products:
    """Products of the given true classes (N,).

    A near-copy repeats topic, motif and words of another product of its class. Each row by itself is thus
    still distributed as the world says, and its posterior exact; only to know the other row would tell more.
    """
    rng = np.random.default_rng([seed, stream])
    num_rows = len(classes)
    copy_of = _copies(classes, rng) if stream == LABELLED else np.arange(num_rows)
    topic, motif = draw_latents(world, classes, rng)
    title = _ragged(draw(world.word_prob, topic, TITLE_WORDS[1], rng), *TITLE_WORDS, rng)
    description = _ragged(draw(world.word_prob, topic, DESCRIPTION_WORDS[1], rng), *DESCRIPTION_WORDS, rng)
    description[rng.random(num_rows) < NO_DESCRIPTION] = -1
    symbols = draw(world.symbol_prob, motif[copy_of], GRID * GRID, rng)
    num_symbols = rng.integers(PHOTO_SYMBOLS[0], PHOTO_SYMBOLS[1] + 1, num_rows)
    places = np.argsort(rng.random(symbols.shape), axis=1)
    symbols[places >= num_symbols[:, None]] = -1
    broken = rng.random(num_rows) < BROKEN_PHOTO
    noisy = rng.random(num_rows) < world.label_noise
    other = (classes + rng.integers(1, len(world.prior), num_rows)) % len(world.prior)
    return Products(
        stream=stream,
        classes=classes,
        labels=np.where(noisy, other, classes),
        title=title[copy_of],
        description=description[copy_of],
        symbols=symbols,
        photo_state=np.where(broken, rng.integers(0, len(BREAKAGES), num_rows), INTACT),
        copy_of=copy_of,
    )


def _copies(classes: IntArray, rng: np.random.Generator) -> IntArray:
    order = rng.permutation(len(classes))
    num_copies = round(NEAR_COPY * len(classes))
    copies, originals = order[:num_copies], order[num_copies:]
    copy_of = np.arange(len(classes))
    for row in copies:
        same_class = originals[classes[originals] == classes[row]]
        if len(same_class):
            copy_of[row] = rng.choice(same_class)
    return copy_of


def _ragged(drawn: IntArray, shortest: int, longest: int, rng: np.random.Generator) -> IntArray:
    lengths = rng.integers(shortest, longest + 1, len(drawn))
    return np.where(np.arange(drawn.shape[1]) < lengths[:, None], drawn, -1)


@dataclass(frozen=True)
class Names:
    """What the files call the products: (N,) each, unique over the whole catalogue."""

    index: IntArray
    productid: IntArray
    imageid: IntArray


def draw_names(demo: DemoConfig) -> tuple[Names, Names]:
    """Names of the labelled and of the unlabelled products."""
    rng = np.random.default_rng([demo.seed, 2])
    total = demo.num_products + demo.num_unlabelled
    productid = 10_000_000 + rng.choice(4_000_000_000, total, replace=False)
    imageid = 200_000_000 + rng.choice(1_200_000_000, total, replace=False)
    parts = (slice(0, demo.num_products), slice(demo.num_products, total))
    labelled, unlabelled = (Names(np.arange(total)[part], productid[part], imageid[part]) for part in parts)
    return labelled, unlabelled


def write_products(
    root: Path, config: DataConfig, world: World, products: Products, names: Names, seed: int
) -> None:
    """The X table and, for labelled products, the Y table."""
    columns, files = config.columns, config.files
    header = (columns.index, columns.designation, columns.description, columns.productid, columns.imageid)
    texts = _texts(world, products, seed)
    ids = zip(names.index, texts, names.productid, names.imageid, strict=True)
    rows = ((index, *text, productid, imageid) for index, text, productid, imageid in ids)
    x_name = (files.x_train if products.stream == LABELLED else files.x_test)[0]
    _write_csv(root / x_name, header, rows, config.encoding)
    if products.stream == LABELLED:
        codes = config.labels.codes
        labels = ((index, codes[label]) for index, label in zip(names.index, products.labels, strict=True))
        _write_csv(root / files.y_train[0], (columns.index, columns.label), labels, config.encoding)


def _texts(world: World, products: Products, seed: int) -> Iterator[tuple[str, str]]:
    rng = random.Random(2 * seed + products.stream)
    clean = [
        (write_title(_words(world, title), rng), write_sentences(_words(world, description), rng))
        for title, description in zip(products.title, products.description, strict=True)
    ]
    for row, source in enumerate(products.copy_of):
        title, sentences = clean[source]
        yield write_fields(title if row == source else near_copy(title, rng), sentences, rng)


def _words(world: World, drawn: IntArray) -> list[str]:
    return [world.words[word] for word in drawn if word >= 0]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], encoding: str) -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_photos(
    root: Path, config: DataConfig, demo: DemoConfig, products: Products, names: Names
) -> Iterator[None]:
    """One photo each time it is asked for the next; each has a generator of its own."""
    folder = root / (config.files.images_train if products.stream == LABELLED else config.files.images_test)
    folder.mkdir(parents=True)
    for row, symbols in enumerate(products.symbols):
        rng = np.random.default_rng([demo.seed, products.stream, 3, row])
        photo: bytes | None = render_photo(symbols, demo.image_px, rng)
        if products.photo_state[row] != INTACT:
            photo = break_photo(photo or b"", BREAKAGES[products.photo_state[row]])
        if photo is not None:
            name = config.files.image_name.format(imageid=names.imageid[row], productid=names.productid[row])
            (folder / name).write_bytes(photo)
        yield
