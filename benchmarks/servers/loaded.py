"""The model that the alternatives serve, from their environment: BENCH_BUNDLE, BENCH_RUNTIME, BENCH_THREADS."""

import base64
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from pydantic import BaseModel

from benchmarks.servers.products import made_up
from rakuten.data.preprocess import Product
from rakuten.model.bundle import Predictor
from rakuten.model.onnx_files import TORCH, graphs_of
from rakuten.model.onnx_runtime import load_runtime
from rakuten.model.runtime import Runtime, TorchRuntime, embed


class Item(BaseModel):
    designation: str | None = None
    description: str | None = None
    image: str | None = None

    def product(self) -> Product:
        return Product(self.designation, self.description, self.image and base64.b64decode(self.image))


class Candidate(BaseModel):
    prdtypecode: int | str
    confidence: float


class Answer(BaseModel):
    predicted_prdtypecode: int | str
    confidence: float
    top_k: list[Candidate]


class Model:
    """Preprocessing and model in one call, as a service around a Predictor has it."""

    def __init__(self) -> None:
        bundle = Path(os.environ["BENCH_BUNDLE"])
        threads = int(os.environ["BENCH_THREADS"])
        torch.set_num_threads(threads)
        self.predictor = Predictor.load(bundle)
        name = os.environ["BENCH_RUNTIME"]
        self.runtime: Runtime
        if name == TORCH and torch.cuda.is_available():
            self.runtime = TorchRuntime(self.predictor.classifier, "cuda", precision="bf16")
        else:
            self.runtime = load_runtime(
                self.predictor,
                graphs_of(bundle),
                name,  # type: ignore[arg-type]
                device="cpu",
                threads=threads,
            )
        self._decoders = ThreadPoolExecutor(os.cpu_count())
        few = made_up(8)
        for part in (*([each] for each in few), few):  # the first calls take longer
            self.answers(part)

    def answers(self, products: Sequence[Product]) -> list[Answer]:
        preprocessor = self.predictor.preprocessor
        if len(products) == 1:
            examples = preprocessor(products)
        else:  # Pillow lets go of the interpreter while it decodes
            examples = [e for part in self._decoders.map(lambda p: preprocessor([p]), products) for e in part]
        embeddings = embed(self.runtime, self.predictor.batch(examples))
        probs = self.predictor.probabilities_of(self.runtime, embeddings)
        return [
            Answer(
                predicted_prdtypecode=answer.code,
                confidence=answer.confidence,
                top_k=[Candidate(prdtypecode=code, confidence=share) for code, share in answer.top],
            )
            for answer in self.predictor.answers_of(probs, [None] * len(products), top_k=5)
        ]
