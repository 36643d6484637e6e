"""Traffic for the drift job: held-out products of a demo catalogue, answered by a bundle and written to a real log."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageFilter

from rakuten.cli import compose
from rakuten.data.features import load_features
from rakuten.data.preprocess import Product
from rakuten.data.raw import image_path
from rakuten.data.statistics import input_statistics
from rakuten.model.bundle import Predictor
from rakuten.model.observe import observe
from rakuten.model.reference import Reference
from rakuten.monitor.log import InferenceLog
from rakuten.monitor.record import PredictionRecord, new_prediction_id
from rakuten.serve.publish import publish
from tests.conftest import ROOT
from tests.experiment.conftest import FUSION, LOOP
from tests.scripts import run_forked

DEMO = [
    "data.demo.num_products=1500",
    "data.demo.num_unlabelled=60",
    "data.demo.image_px=32",
    "data.split.calib=0.15",
]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}


@dataclass(frozen=True)
class Trained:
    """A bundle, and products that it was neither trained nor evaluated on, with their codes."""

    folder: Path
    bundle: Path
    products: list[Product]
    codes: list[int]


def train(folder: Path) -> Trained:
    options = ["tracking=off", "trainer=cpu", *DEMO, *FUSION, *LOOP]
    done = run_forked(ROOT / "scripts/train.py", options, folder, ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    data = folder / "data"
    places = [f"data.root={data / 'demo'}", f"data.cache_dir={data / 'cache/demo'}"]
    config = compose("train", [*DEMO, *FUSION, *places])
    table = load_features(config.data, config.model).table
    rows = table[table["side"] == "calib"]
    products = [
        Product(
            row.designation,
            row.description,
            image_path(
                data / "demo" / config.data.files.images_train, config.data.files, row.imageid, row.productid
            ).read_bytes()
            if row.image_state == "ok"
            else None,
        )
        for row in rows.itertuples()
    ]
    return Trained(
        folder, folder / done.stdout.strip(), products, [int(each) for each in rows["prdtypecode"]]
    )


def blurred(product: Product) -> Product:
    if not isinstance(product.image, bytes):
        return product
    changed = io.BytesIO()
    Image.open(io.BytesIO(product.image)).convert("RGB").filter(ImageFilter.GaussianBlur(3)).save(
        changed, "JPEG"
    )
    return replace(product, image=changed.getvalue())


def answers(
    bundle: Path, products: Sequence[Product], version: str, *, at: float | None = None, keep: bool = False
) -> list[PredictionRecord]:
    """One a second up to `at` (Unix time, s), as the service logs them; with their texts and photos if `keep`."""
    predictor, reference = Predictor.load(bundle), Reference.load(bundle)
    examples = predictor.preprocessor(products)
    statistics = [
        input_statistics(product, example, predictor.preprocessor, reference.words())
        for product, example in zip(products, examples, strict=True)
    ]
    ids = [new_prediction_id() for _ in products]
    seen = observe(predictor, examples, statistics, ids)
    last = time.time() if at is None else at
    return [
        PredictionRecord(
            prediction_id=ids[i],
            at=last - len(products) + i,
            model_version=version,
            code=predictor.labels.codes[int(seen.predicted[i])],
            confidence=float(seen.confidence[i]),
            probs=seen.probs[i],
            abstained=False,
            cached=False,
            statistics=statistics[i],
            text_embedding=seen.embeddings["text"][i].astype("f4")
            if examples[i].tokens is not None
            else None,
            image_embedding=seen.embeddings["image"][i].astype("f4")
            if examples[i].pixels is not None
            else None,
            designation=products[i].designation if keep else None,
            description=products[i].description if keep else None,
            image=products[i].image if keep and isinstance(products[i].image, bytes) else None,
        )
        for i in range(len(products))
    ]


@dataclass
class Desk:
    """A folder from which a champion is watched."""

    folder: Path
    trained: Trained

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'outputs/inference.db'}"

    def promote(self, version: str, bundle: Path | None = None) -> None:
        publish(
            self.folder / "outputs",
            model="rakuten",
            version=version,
            run_id=f"run-{version}",
            uuid=None,
            bundle=bundle or self.trained.bundle,
        )

    def write(self, records: Sequence[PredictionRecord], feedback: Mapping[str, int | str] = {}) -> None:
        log = InferenceLog(self.url, self.folder / "outputs/spool")
        for record in records:
            assert log.write(record)
        for prediction_id, code in feedback.items():
            assert log.feedback(prediction_id, code)
        assert log.close(60)

    def drift(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """scripts/drift.py, without Evidently unless it is asked for."""
        given = (
            arguments
            if any(each.startswith("evidently_dir") for each in arguments)
            else (*arguments, "evidently_dir=null")
        )
        return run_forked(ROOT / "scripts/drift.py", ["tracking=off", *given], self.folder, ENVIRONMENT)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(ROOT / "scripts/drift.py"), "tracking=off", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def figures(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(
            (self.folder / "reports/drift/drift.json").read_text(encoding="utf-8")
        )
        return found
