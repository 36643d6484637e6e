"""Traffic to try the drift tests on: what a model trained on the demo catalogue really says of held-out products, as they
are and spoiled in five ways. Computed once, below outputs/drift/; windows are drawn from it."""

import csv
import io
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from drift_german import in_german
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from rich.console import Console

from rakuten.cli import compose
from rakuten.data.demo import ensure_demo
from rakuten.data.demo_text import write_fields, write_sentences, write_title
from rakuten.data.preprocess import Product
from rakuten.data.raw import image_path
from rakuten.data.statistics import input_statistics
from rakuten.model.bundle import Predictor
from rakuten.model.observe import observe
from rakuten.model.reference import Observations, Reference

ROOT = Path(__file__).parents[1]
CHUNK = 2_000  # products observed at once
BLUR_PX = 1.5  # standard deviation of the blur, of photos of 96 px
NEW_WORDS = [
    "guitare",
    "piano",
    "violon",
    "batterie",
    "trompette",
    "saxophone",
    "partition",
    "accordéon",
    "flûte",
    "ukulélé",
    "ampli",
    "cymbale",
    "archet",
    "métronome",
    "harmonica",
    "clarinette",
]


@dataclass(frozen=True)
class Traffic:
    """Held-out products as the model saw them; `spoiled` holds the first of them again, each changed in one way."""

    trained: Reference  # as it lies in the bundle
    clean: Observations
    spoiled: dict[str, Observations]

    @property
    def num_spoiled(self) -> int:
        return min(map(len, self.spoiled.values()))


def load_traffic(
    folder: Path, *, num_train: int, num_clean: int, num_spoiled: int, console: Console
) -> Traffic:
    """What lies below `folder`, made where it is missing: minutes of training, then a minute per 20,000 products."""
    bundle = _train(folder / f"model-{num_train}", num_train, console)
    trained = Reference.load(bundle)
    products: list[Product] = []
    labels: list[int] = []

    def pool(
        name: str, change: Callable[[list[Product]], list[Product]], num: int, known: bool = True
    ) -> Observations:
        place = folder / f"model-{num_train}" / f"{name}-{num}"
        if not place.is_dir():
            if not products:
                found, true = _catalogue(folder / f"catalogue-{num_clean}", num_clean, console)
                products.extend(found)
                labels.extend(true)
            console.print(f"[dim]the model's answers on {num:,} products, {name}[/dim]")
            seen = _answers(bundle, trained, change(products[:num]), labels[:num] if known else [-1] * num)
            place.mkdir(parents=True)
            replace(trained, seen=seen).save(place)
        return Reference.load(place).seen

    clean = pool("clean", lambda them: them, num_clean)
    spoiled = {name: pool(name, change, num_spoiled, name != NEW) for name, change in SPOILINGS.items()}
    return Traffic(trained, clean, spoiled)


def _train(folder: Path, num_products: int, console: Console) -> Path:
    done = sorted(folder.glob("outputs/*/bundle/reference.safetensors"))
    if not done:
        folder.mkdir(parents=True, exist_ok=True)
        console.print(f"[dim]training on {num_products:,} products of the demo catalogue[/dim]")
        subprocess.run(
            [sys.executable, str(ROOT / "scripts/train.py"), "tracking=off", "trainer=cpu", "bootstrap=20",
             f"data.demo.num_products={num_products}"],
            cwd=folder, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        done = sorted(folder.glob("outputs/*/bundle/reference.safetensors"))
    return done[-1].parent


def _catalogue(folder: Path, num: int, console: Console) -> tuple[list[Product], list[int]]:
    """The same generator with another seed: products that the model has never met, exchangeable with its own."""
    demo = ["data.demo.seed=7", f"data.demo.num_products={num}", "data.demo.num_unlabelled=10"]
    data = compose("train", [*demo, f"data.root={folder}"]).data
    ensure_demo(data, console=console)
    with (
        (folder / "X_train.csv").open(encoding="utf-8") as x,
        (folder / "Y_train.csv").open(encoding="utf-8") as y,
    ):
        rows, codes = list(csv.DictReader(x)), [row["prdtypecode"] for row in csv.DictReader(y)]
    images = folder / data.files.images_train
    products = []
    for row in rows:
        path = image_path(images, data.files, row["imageid"], row["productid"])
        photo = path.read_bytes() if path.is_file() else None
        products.append(Product(row["designation"], row["description"], photo))
    order = np.random.default_rng(0).permutation(num)
    return [products[i] for i in order], [data.labels.parse(codes[i]) or 0 for i in order]


def _answers(
    bundle: Path, trained: Reference, products: Sequence[Product], labels: Sequence[int]
) -> Observations:
    predictor, words = Predictor.load(bundle), trained.words()
    parts = []
    for start in range(0, len(products), CHUNK):
        some = products[start : start + CHUNK]
        examples = predictor.preprocessor(some)
        statistics = [
            input_statistics(product, example, predictor.preprocessor, words)
            for product, example in zip(some, examples, strict=True)
        ]
        ids = [str(start + i) for i in range(len(some))]
        true = np.array(labels[start : start + CHUNK], dtype=np.int64)
        parts.append(observe(predictor, examples, statistics, ids, true))
    return Observations.together(parts)


def _blurred(products: list[Product]) -> list[Product]:
    return [
        replace(each, image=_blur(each.image) if isinstance(each.image, bytes) else None) for each in products
    ]


def _blur(photo: bytes) -> bytes:
    try:
        image = Image.open(io.BytesIO(photo)).convert("RGB")
    except OSError:  # one of the catalogue's broken files
        return photo
    out = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(BLUR_PX)).save(out, "JPEG", quality=90)
    return out.getvalue()


def _german(products: list[Product]) -> list[Product]:
    from rakuten.data.clean import clean

    return [
        replace(each, designation=in_german(clean(each.designation, 10_000)),
                description=in_german(clean(each.description, 10_000)))
        for each in products
    ]  # fmt: skip


def _without_photos(products: list[Product]) -> list[Product]:
    return [replace(each, image=None) for each in products]


def _instruments(products: list[Product]) -> list[Product]:
    """Products of a category that the catalogue has not: words of their own, photos of stripes and triangles."""
    rng, numpy_rng = random.Random(3), np.random.default_rng(3)
    made = []
    for old in products:
        title = write_title(rng.choices(NEW_WORDS, k=rng.randint(8, 11)), rng)
        sentences = (
            write_sentences(rng.choices(NEW_WORDS, k=rng.randint(6, 12)), rng) if old.description else []
        )
        made.append(Product(*write_fields(title, sentences, rng), _striped(numpy_rng)))
    return made


def _striped(rng: np.random.Generator, side_px: int = 96) -> bytes:
    image = Image.new("RGB", (side_px, side_px), tuple(int(each) for each in rng.integers(200, 240, 3)))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 8))):
        corners = [(float(x), float(y)) for x, y in rng.uniform(0, side_px, (3, 2))]
        pen.polygon(corners, fill=tuple(int(each) for each in rng.integers(20, 230, 3)))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


NEW = "a new category"
SPOILINGS: dict[str, Callable[[list[Product]], list[Product]]] = {
    "blurred photos": _blurred,
    "German for French": _german,
    "no photos": _without_photos,
    NEW: _instruments,
}


def draw_clean(
    traffic: Traffic, n: int, m: int, rng: np.random.Generator
) -> tuple[Observations, Observations]:
    """A window of `n` and a reference of `m` products, no product in both, none twice."""
    rows = rng.permutation(len(traffic.clean))[: n + m]
    return traffic.clean.take(rows[:n]), traffic.clean.take(rows[n:])


def draw_spoiled(
    traffic: Traffic, how: str, share: float, n: int, m: int, rng: np.random.Generator
) -> tuple[Observations, Observations]:
    """A window of which each product is spoiled with the chance `share`, and a clean reference of other products."""
    first = traffic.num_spoiled
    reference = traffic.clean.take(first + rng.permutation(len(traffic.clean) - first)[:m])
    rows = rng.permutation(first)[:n]
    hit = rng.random(n) < share
    parts = [traffic.clean.take(rows[~hit]), traffic.spoiled[how].take(rows[hit])]
    return Observations.together([part for part in parts if len(part)]), reference


def draw_shifted(
    traffic: Traffic, label: int, points: float, n: int, m: int, rng: np.random.Generator
) -> tuple[Observations, Observations]:
    """A window in which the class `label` has `points` (a share of all) more than in the clean traffic, taken from all
    others alike. Where its products run short they are drawn with replacement."""
    rows = rng.permutation(len(traffic.clean))
    reference, rest = rows[:m], rows[m:]
    labels = traffic.clean.labels
    mine, others = rest[labels[rest] == label], rest[labels[rest] != label]
    share = float((labels == label).mean()) + points
    num = int(rng.binomial(n, share))
    chosen: list[NDArray[np.intp]] = [rng.choice(mine, num, replace=num > len(mine)), others[: n - num]]
    return traffic.clean.take(np.concatenate(chosen)), traffic.clean.take(reference)
