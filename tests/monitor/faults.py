"""Traffic of a shop, and what can go wrong with it and with a model."""

import asyncio
import itertools
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np
import torch
from pydantic import TypeAdapter

from rakuten.config import ModelConfig
from rakuten.data.preprocess import Product
from rakuten.model.bundle import Predictor, save_bundle
from rakuten.model.bundle_files import WEIGHTS
from rakuten.model.canary import record_canary
from tests.monitor.traffic import Trained

_NUMBER = itertools.count()  # in each title, so that no answer is known already


class Shop:
    """Products, one after the other, some with their photo, and what every other one truly was; until it is closed."""

    def __init__(self, url: str, trained: Trained, key: str, pause_s: float = 0.02):
        self.refused = 0  # answers other than 2xx, connections that failed
        self._trained, self._pause_s = trained, pause_s
        self._client = httpx.Client(
            base_url=url, timeout=30, trust_env=False, headers={"Authorization": f"Bearer {key}"}
        )
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(60)
        self._client.close()

    def _work(self) -> None:
        draw = random.Random(0)
        while not self._closing.wait(self._pause_s):
            row = draw.randrange(len(self._trained.products))
            product, code = self._trained.products[row], self._trained.codes[row]
            try:
                answer = self._client.post("/predict", **asked(product, with_photo=row % 4 == 0))
                answer.raise_for_status()
                if row % 2:
                    said = {"prediction_id": answer.json()["prediction_id"], "prdtypecode": code}
                    self._client.post("/feedback", json=said).raise_for_status()
            except httpx.HTTPError:
                self.refused += 1
                time.sleep(0.2)


def asked(product: Product, *, with_photo: bool) -> dict[str, Any]:
    """A request, as httpx takes it."""
    title = f"{product.designation} {next(_NUMBER)}"
    text = {"designation": title} | ({"description": product.description} if product.description else {})
    if with_photo and isinstance(product.image, bytes):
        return {"data": text, "files": {"image": ("photo.jpg", product.image, "image/jpeg")}}
    return {"json": text}


class Flood:
    """More than a service can take: whole batches and single products, each asked again soon; until it is closed."""

    def __init__(self, url: str, key: str, connections: int = 16):
        self.statuses: dict[int, int] = {}
        self._url, self._key, self._connections = url, key, connections
        self._closing = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(60)

    async def _work(self) -> None:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {self._key}"}) as session:
            await asyncio.gather(*(self._send(session, number) for number in range(self._connections)))

    async def _send(self, session: aiohttp.ClientSession, number: int) -> None:
        while not self._closing.is_set():
            items = [{"designation": f"piscine ronde {next(_NUMBER)} " * 20} for _ in range(64)]
            path, body = ("/predict_batch", {"items": items}) if number % 2 else ("/predict", items[0])
            try:
                async with session.post(self._url + path, json=body) as answer:
                    self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
                    refused = answer.status != 200
                    await answer.read()
            except aiohttp.ClientError:
                refused = True
            if refused:
                await asyncio.sleep(0.1)


def one_class(bundle: Path, folder: Path, code: int) -> Path:
    """The bundle as a broken training leaves it: whole, its canaries as it answers them, and one answer to everything."""
    predictor = Predictor.load(bundle)
    position = predictor.labels.codes.index(code)
    with torch.no_grad():
        for name, parameter in predictor.classifier.named_parameters():
            if name.endswith("bias") and parameter.shape == (len(predictor.labels),):
                parameter[position] += 100
    save_bundle(
        folder,
        predictor.classifier,
        predictor.preprocessor,
        predictor.labels,
        TypeAdapter(ModelConfig).validate_python(predictor.info["model"]),
        lineage=predictor.info["lineage"],
        calibration=predictor.info["calibration"],
    )
    products = [Product(f"produit {number}", None, None) for number in range(8)]
    record_canary(folder, predictor.preprocessor(products))
    return folder


def torn(bundle: Path, folder: Path) -> Path:
    """A copy whose weights end early."""
    shutil.copytree(bundle, folder)
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    return folder


def week_before(right: int = 80, wrong: int = 20) -> str:
    """Feedback of the time that a test takes for the past week, as OpenMetrics."""
    now = time.time()
    at = np.arange(now - 50 * 60, now - 26 * 60, 30)  # a day is 24 minutes of such a test
    lines = ["# TYPE rakuten_feedback counter"]
    for correct, total in (("yes", right), ("no", wrong)):
        labels = f'model_version="0",correct="{correct}",job="rakuten",instance="past"'
        counts = np.linspace(0, total, len(at))
        lines += [
            f"rakuten_feedback_total{{{labels}}} {count:.3f} {second:.3f}"
            for count, second in zip(counts, at)
        ]
    return "\n".join([*lines, "# EOF", ""])
