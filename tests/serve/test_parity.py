"""However a product is asked for, code and confidence are those that the model was evaluated with."""

import asyncio
import base64
import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from rakuten.data.preprocess import Product
from rakuten.model.bundle import Predictor
from rakuten.model.onnx_export import INT8_BOUND, INT8_F1_DROP, export_onnx
from rakuten.model.onnx_files import graphs_of
from tests.conftest import ROOT
from tests.experiment.conftest import DEMO
from tests.scripts import run_forked
from tests.serve.process import Service, house

CATALOGUE = os.environ.get("CATALOGUE")
FP32 = 1e-5
AT_ONCE = 8
ITEMS = 16  # of a batch
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}


@dataclass(frozen=True)
class Said:
    code: str
    confidence: float


@dataclass(frozen=True)
class Row:
    """A product of a catalogue's training table."""

    index: str
    cells: dict[str, str]
    photo: Path

    @property
    def product(self) -> Product:
        image = self.photo.read_bytes() if self.photo.is_file() else None
        return Product(self.cells["designation"], self.cells["description"], image)


def rows_of(root: Path) -> list[Row]:
    with (root / "X_train.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    photos = root / "images/image_train"
    return [
        Row(cells[""], cells, photos / f"image_{cells['imageid']}_product_{cells['productid']}.jpg")
        for cells in table
    ]


def evaluated(predictions: Path) -> dict[str, Said]:
    """What an evaluation wrote, by the products' index."""
    with predictions.open(encoding="utf-8") as file:
        return {
            row["index"]: Said(row["predicted_code"], float(row["confidence"]))
            for row in csv.DictReader(file)
        }


Ask = Callable[[aiohttp.ClientSession, str, Sequence[Product]], Any]


async def by_json(session: aiohttp.ClientSession, url: str, products: Sequence[Product]) -> list[Any]:
    [product] = products
    async with session.post(f"{url}/predict", json=item_of(product)) as response:
        return [await response.json()]


async def by_form(session: aiohttp.ClientSession, url: str, products: Sequence[Product]) -> list[Any]:
    [product] = products
    form = aiohttp.FormData(default_to_multipart=True)
    for name in ("designation", "description"):
        form.add_field(name, getattr(product, name) or "")
    if isinstance(product.image, bytes):
        form.add_field("image", product.image, filename="photo.jpg", content_type="image/jpeg")
    async with session.post(f"{url}/predict", data=form) as response:
        return [await response.json()]


async def by_batch(session: aiohttp.ClientSession, url: str, products: Sequence[Product]) -> list[Any]:
    body = {"items": [item_of(product) for product in products]}
    async with session.post(f"{url}/predict_batch", json=body) as response:
        found: list[Any] = (await response.json())["results"]
        return found


def item_of(product: Product) -> dict[str, str | None]:
    image = base64.b64encode(product.image).decode() if isinstance(product.image, bytes) else None
    return {"designation": product.designation, "description": product.description, "image": image}


WAYS: dict[str, tuple[Ask, int]] = {"json": (by_json, 1), "form": (by_form, 1), "batch": (by_batch, ITEMS)}


def asked(url: str, rows: Sequence[Row], way: str) -> list[Said]:
    """All rows, a few requests at a time."""
    ask, size = WAYS[way]

    async def main() -> list[Said]:
        limit = asyncio.Semaphore(AT_ONCE)
        timeout = aiohttp.ClientTimeout(total=300)
        async with aiohttp.ClientSession(timeout=timeout) as session:

            async def some(part: Sequence[Row]) -> list[Any]:
                async with limit:
                    return list(await ask(session, url, [row.product for row in part]))

            parts = [rows[at : at + size] for at in range(0, len(rows), size)]
            found = [each for part in await asyncio.gather(*map(some, parts)) for each in part]
        return [Said(str(each["predicted_prdtypecode"]), each["confidence"]) for each in found]

    return asyncio.run(main())


def assert_alike(found: Sequence[Said], expected: Sequence[Said], bound: float) -> None:
    assert len(found) == len(expected) > 0
    differences = [abs(a.confidence - b.confidence) for a, b in zip(found, expected, strict=True)]
    assert max(differences) <= bound
    assert [each.code for each in found] == [each.code for each in expected]


def patient(folder: Path, bundle: Path, **settings: object) -> Service:
    """A service that computes every answer and refuses none."""
    return Service(house(folder / "house", bundle), cache_size=0, latency_target_ms=600_000, **settings)


@pytest.fixture(scope="module")
def computing(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = patient(tmp_path_factory.mktemp("parity"), bundle, runtime="torch")
    try:
        yield service.wait_until_ready()
    finally:
        service.kill()


@pytest.fixture(scope="module")
def demo(shop: Path, bundle: Path) -> tuple[list[Row], list[Said]]:
    """Every row of the demo's test set, and what the evaluation after training said of it."""
    said = evaluated(bundle.parent / "evaluation/test/predictions.csv")
    rows = [row for row in rows_of(shop / "data/demo") if row.index in said]
    assert len(rows) == len(said) >= 40
    return rows, [said[row.index] for row in rows]


@pytest.mark.parametrize("way", WAYS)
def test_http_answers_as_evaluated(computing: Service, demo: tuple[list[Row], list[Said]], way: str) -> None:
    rows, expected = demo
    assert_alike(asked(computing.url, rows, way), expected, FP32)


def test_files_are_answered_as_evaluated(
    bundle: Path, demo: tuple[list[Row], list[Said]], tmp_path: Path
) -> None:
    rows, expected = demo
    with (tmp_path / "products.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0].cells))
        writer.writeheader()
        writer.writerows(row.cells for row in rows)
    overrides = [
        *DEMO,
        f"bundle={bundle}",
        f"input={tmp_path / 'products.csv'}",
        f"images={rows[0].photo.parent}",
        f"output={tmp_path / 'predictions.csv'}",
    ]
    done = run_forked(ROOT / "scripts/predict.py", overrides, tmp_path, ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "predictions.csv").open(encoding="utf-8") as file:
        found = [Said(row["predicted_prdtypecode"], float(row["confidence"])) for row in csv.DictReader(file)]
    assert_alike(found, expected, FP32)


@pytest.mark.slow
def test_eight_bits_answer_nearly_as_evaluated(shop: Path, tmp_path: Path) -> None:
    """A transformer, quantized: within the bound that its export states, and no more than 0.2 points of F1 worse."""
    tiny = ["model.text.vocab_size=300", "model.text.hidden_size=32", "model.text.max_tokens=32"]
    small = [
        "model/text=camembert_tiny",
        *tiny,
        "model.image.image_px=32",
        "model.fusion.hidden_dim=16",
    ]
    overrides = [
        "model=fusion_small",
        *small,
        *DEMO,
        "trainer=cpu",
        "trainer.max_epochs=4",
        "trainer.threads=1",
    ]
    places = [f"data.root={shop / 'data/demo'}", f"outputs_dir={tmp_path / 'outputs'}", "tracking=off"]
    done = run_forked(ROOT / "scripts/train.py", [*overrides, *places, "bootstrap=20"], tmp_path, ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    bundle = tmp_path / done.stdout.strip().splitlines()[-1]
    export_onnx(bundle, graphs_of(bundle), quantized=True, threads=1)
    rows = rows_of(shop / "data/demo")
    expected = [
        Said(str(answer.code), answer.confidence)
        for answer in Predictor.load(bundle).predict([row.product for row in rows])
    ]
    service = patient(tmp_path, bundle, runtime="onnx-int8")
    try:
        service.wait_until_ready()
        found = asked(service.url, rows, "json")
    finally:
        service.kill()
    labels = truth(shop / "data/demo")
    fp32, int8 = (
        weighted_f1([labels[row.index] for row in rows], [each.code for each in said])
        for said in (expected, found)
    )
    differences = [abs(a.confidence - b.confidence) for a, b in zip(found, expected, strict=True)]
    assert 0 < max(differences) <= INT8_BOUND
    assert fp32 - int8 <= INT8_F1_DROP


@pytest.mark.acceptance
@pytest.mark.timeout(3600)
@pytest.mark.skipif(CATALOGUE is None, reason="needs real products: make acceptance CATALOGUE=PATH")
def test_every_real_product_is_answered_as_evaluated(
    computing: Service, bundle: Path, tmp_path: Path
) -> None:
    root = Path(CATALOGUE or "").resolve()
    overrides = ["data=rakuten", f"data.root={root}", f"bundle={bundle}", f"output={tmp_path / 'report'}"]
    done = run_forked(ROOT / "scripts/evaluate.py", [*overrides, "bootstrap=10"], tmp_path, ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    [predictions] = (tmp_path / "report").rglob("predictions.csv")
    said = evaluated(predictions)
    rows = rows_of(root)
    tested = [row for row in rows if row.index in said]
    for way in WAYS:
        assert_alike(asked(computing.url, tested, way), [said[row.index] for row in tested], FP32)
    predictor = Predictor.load(bundle)
    everything = [
        Said(str(answer.code), answer.confidence)
        for at in range(0, len(rows), 64)
        for answer in predictor.predict([row.product for row in rows[at : at + 64]])
    ]
    assert_alike(asked(computing.url, rows, "batch"), everything, FP32)


def truth(root: Path) -> dict[str, str]:
    with (root / "Y_train.csv").open(encoding="utf-8") as file:
        return {row[""]: row["prdtypecode"] for row in csv.DictReader(file)}


def weighted_f1(labels: Sequence[str], answers: Sequence[str]) -> float:
    truth_, said = np.array(labels), np.array(answers)
    total = 0.0
    for code in set(labels):
        hits = float(((truth_ == code) & (said == code)).sum())
        support = float((truth_ == code).sum())
        total += support * 2 * hits / (support + float((said == code).sum()))
    return total / len(labels)
