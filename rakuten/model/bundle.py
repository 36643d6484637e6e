"""What is served: a folder of safetensors, JSON and the tokenizer, and the Predictor that answers from it.

No pickle anywhere, every file's hash checked before it is used, and nothing of Lightning or Hydra needed.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rakuten.config import Limits, ModelConfig
from rakuten.config_io import to_plain
from rakuten.data.batching import Batch, collate
from rakuten.data.labels import Code, LabelSet
from rakuten.data.preprocess import Example, Preprocessor, Product
from rakuten.data.text_encoder import load_encoder
from rakuten.errors import BundleError
from rakuten.model.bundle_files import (
    FORMAT,
    TOKENIZER,
    WEIGHTS,
    check_hashes,
    read_info,
    sha256,
    write_info,
)
from rakuten.model.calibration import Calibration
from rakuten.model.classifier import ProductClassifier
from rakuten.model.image import build_image_tower
from rakuten.model.runtime import Embeddings, Runtime, logits_of
from rakuten.model.text import TransformerTower, build_text_tower

Modality = Literal["text", "image"]


@dataclass(frozen=True)
class Answer:
    """The category of one product and the `top` ones, most confident first."""

    code: Code
    name: str
    confidence: float
    top: tuple[tuple[Code, float], ...]
    image_problem: str | None = None


class Predictor:
    """A bundle in memory: products in, categories out, exactly as they were evaluated."""

    def __init__(
        self,
        classifier: ProductClassifier,
        preprocessor: Preprocessor,
        labels: LabelSet,
        info: Mapping[str, Any],
        device: str = "cpu",
        path: Path | None = None,
    ):
        self.classifier = classifier.eval().to(device)
        self.preprocessor, self.labels, self.info, self.device = preprocessor, labels, dict(info), device
        self.path = path  # of the bundle, where it was loaded from one
        calibration = Calibration.of(info["calibration"])
        self.temperature = calibration.temperature
        self.temperature_without_text = calibration.temperature_without_text

    @property
    def calibration(self) -> Calibration:
        return Calibration(self.temperature, self.temperature_without_text)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> "Predictor":
        """The Predictor of the bundle folder `path`.

        Raises:
            BundleError: no bundle there, a file torn or tampered with, or a format this version cannot read.
        """
        folder = Path(path)
        info = read_info(folder)
        try:
            check_hashes(folder, info["hashes"])
            config = TypeAdapter(ModelConfig).validate_python(info["model"])
            labels = LabelSet(tuple(info["labels"]["codes"]), tuple(info["labels"]["names"]))
            limits = TypeAdapter(Limits).validate_python(info["preprocessing"]["limits"])
            encoder = load_encoder(folder / TOKENIZER) if config.text is not None else None
            image = config.image
            preprocessor = Preprocessor(
                encoder,
                None if image is None else image.image_px,
                False if image is None else image.trim_border,
                limits,
            )
            classifier = build_classifier(
                config, len(labels), preprocessor, hf_config=info["hf_config"], load_weights=False
            )
            classifier.load_state_dict(load_file(folder / WEIGHTS))
            return cls(classifier, preprocessor, labels, info, device, folder)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise BundleError(
                f"the bundle at {folder} does not fit this version of rakuten", got=str(error).splitlines()[0]
            ) from error

    def predict(
        self, products: Sequence[Product], *, top_k: int = 3, hide: Modality | None = None
    ) -> list[Answer]:
        """One answer per product, in order; `hide` answers as if that modality were not there."""
        return self.answer(self.preprocessor(products), top_k=top_k, hide=hide)

    def answer(
        self, examples: Sequence[Example], *, top_k: int = 3, hide: Modality | None = None
    ) -> list[Answer]:
        """As `predict`, for products that are preprocessed already."""
        if not examples:
            return []
        probs = self.probabilities(self.batch(examples), hide)
        return self.answers_of(probs, [example.image_problem for example in examples], top_k=top_k)

    def answers_of(
        self, probs: NDArray[np.float64], image_problems: Sequence[str | None], *, top_k: int = 3
    ) -> list[Answer]:
        """As `predict`, from (B, C) calibrated probabilities, whichever runtime they came from."""
        best = np.argsort(-probs, axis=1, kind="stable")[:, : min(top_k, len(self.labels))]
        return [
            Answer(
                code=self.labels.codes[order[0]],
                name=self.labels.names[order[0]],
                confidence=float(row[order[0]]),
                top=tuple((self.labels.codes[i], float(row[i])) for i in order),
                image_problem=problem,
            )
            for row, order, problem in zip(probs, best, image_problems, strict=True)
        ]

    def batch(self, examples: Sequence[Example]) -> Batch:
        encoder = self.preprocessor.text_encoder
        pad_id = 0 if encoder is None else encoder.pad_id
        return collate(examples, pad_id=pad_id, image_px=self.preprocessor.image_px or 1)

    @torch.inference_mode()
    def logits(self, batch: Batch, hide: Modality | None = None) -> Tensor:
        """(B, C) fused logits before calibration."""
        everything = torch.ones(len(batch), dtype=torch.bool)
        if hide is not None:
            batch = batch.without(**{hide: everything})
        fused: Tensor = self.classifier(batch.to(self.device)).fused
        return fused.cpu()

    def probabilities(self, batch: Batch, hide: Modality | None = None) -> NDArray[np.float64]:
        """(B, C) calibrated probabilities."""
        has_text = batch.has_text.numpy() & (hide != "text")
        return self.calibration.probabilities(self.logits(batch, hide).numpy(), has_text)

    def probabilities_of(self, runtime: Runtime, embeddings: Embeddings) -> NDArray[np.float64]:
        """(B, C) calibrated probabilities of products that a runtime's towers have seen already."""
        return self.calibration.probabilities(logits_of(runtime, embeddings), embeddings.has_text)


def build_classifier(
    config: ModelConfig,
    num_classes: int,
    preprocessor: Preprocessor,
    *,
    hf_config: dict[str, Any] | None = None,
    load_weights: bool = True,
) -> ProductClassifier:
    """The model of `config` with its towers."""
    text = image = None
    if config.text is not None:
        encoder = preprocessor.text_encoder
        assert encoder is not None
        text = build_text_tower(
            config.text, encoder.vocab_size, encoder.pad_id, hf_config=hf_config, load_weights=load_weights
        )
    if config.image is not None:
        image = build_image_tower(config.image, load_weights=load_weights)
    return ProductClassifier(config, num_classes, text, image)


def save_bundle(
    folder: Path,
    classifier: ProductClassifier,
    preprocessor: Preprocessor,
    labels: LabelSet,
    config: ModelConfig,
    *,
    lineage: Mapping[str, Any],
    calibration: Mapping[str, float] = MappingProxyType({"temperature": 1.0}),
) -> None:
    """Write a bundle; what is at `folder` is replaced when the new one is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    partial.chmod(0o755)
    state = {key: value.detach().cpu().contiguous() for key, value in classifier.state_dict().items()}
    save_file(state, partial / WEIGHTS)
    if preprocessor.text_encoder is not None:
        preprocessor.text_encoder.save(partial / TOKENIZER)
    text = classifier.towers.get("text")
    info = {
        "format": FORMAT,
        "labels": {"codes": list(labels.codes), "names": list(labels.names)},
        "preprocessing": {"limits": to_plain(preprocessor.limits)},
        "model": to_plain(config),
        "hf_config": text.hf_config if isinstance(text, TransformerTower) else None,
        "calibration": dict(calibration),
        "metrics": {},
        "lineage": dict(lineage),
        "drift_reference": None,
        "hashes": {
            str(path.relative_to(partial)): sha256(path)
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        },
    }
    write_info(partial, info)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
