"""Small models and made-up products, for the tests of what lies between data and logits."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from pydantic import TypeAdapter
from torch import nn

from rakuten.config import Limits, ModelConfig, NgramConfig, OptimConfig, TimmConfig, TransformerConfig
from rakuten.data.batching import Batch, collate
from rakuten.data.fit_encoder import encoder_settings, fit_encoder
from rakuten.data.labels import LabelSet
from rakuten.data.preprocess import Preprocessor, Product
from rakuten.data.text_encoder import TextEncoder
from rakuten.model.bundle import Predictor, build_classifier, save_bundle
from rakuten.model.classifier import ProductClassifier

CONF = Path(__file__).parents[2] / "conf" / "model"
LIMITS = Limits(image_bytes=1_000_000, image_pixels=4_000_000, text_chars=2_000)
NUM_CLASSES = 5
LABELS = LabelSet((10, 40, "2403", 50, 60), ("Livres", "Jeux", "Lots", "Accessoires", "Consoles"))
WORDS = [
    "livre",
    "jeu",
    "console",
    "piscine",
    "bébé",
    "chaise",
    "carte",
    "figurine",
    "robot",
    "lampe",
    "tapis",
    "coussin",
    "stylo",
    "drone",
]

TEXT_KINDS = ("ngram", "transformer")
FUSIONS = ("concat", "gated", "late")
TIMM_NAMES = (
    "test_resnet",
    "test_vit",
    "test_convnext",
    "test_efficientnet",
    "resnet10t",
    "mobilenetv4_conv_small",
    "convnext_atto",
    "vit_tiny_patch16_224",
)


def text_config(kind: str, **changes: Any) -> NgramConfig | TransformerConfig:
    """N-grams of 300 buckets, or CamemBERT's architecture with two layers of width 16. No dropout."""
    if kind == "ngram":
        small = {"num_buckets": 300, "embedding_dim": 12, "max_tokens": 64, "dropout": 0.0}
        return TypeAdapter(NgramConfig).validate_python(_yaml("text/ngram") | small | changes)
    small = {"vocab_size": 120, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_tokens": 24}
    values = _yaml("text/camembert") | {"name": "tiny", "pretrained": False, "dropout": 0.0} | small
    return TypeAdapter(TransformerConfig).validate_python(values | changes)


def image_config(name: str = "test_resnet", **changes: Any) -> TimmConfig:
    values = _yaml("image/small") | {"name": name, "image_px": 32, "dropout": 0.0} | changes
    return TypeAdapter(TimmConfig).validate_python(values)


def model_config(
    text: str | NgramConfig | TransformerConfig | None = "ngram",
    image: str | TimmConfig | None = "test_resnet",
    fusion: str | None = "concat",
    **changes: Any,
) -> ModelConfig:
    """A fusion model without dropout; `text=None` or `image=None` leaves one tower."""
    values = {key: value for key, value in _yaml("fusion").items() if key not in ("defaults", "name")}
    both = text is not None and image is not None
    values |= {
        "name": "tiny",
        "text": text_config(text) if isinstance(text, str) else text,
        "image": image_config(image) if isinstance(image, str) else image,
        "fusion": {"kind": fusion, "hidden_dim": 8, "dropout": 0.0, "image_weight": 1.0} if both else None,
    }
    return TypeAdapter(ModelConfig).validate_python(values | changes)


def optim_config(**changes: Any) -> OptimConfig:
    return TypeAdapter(OptimConfig).validate_python(_yaml("../optim/adamw") | changes)


_encoders: dict[str, TextEncoder] = {}  # by their settings: a tokenizer need not be trained for each test


def preprocessor(config: ModelConfig) -> Preprocessor:
    encoder = None
    if config.text is not None:
        key = repr(encoder_settings(config.text))
        if key not in _encoders:
            _encoders[key] = fit_encoder(config.text, corpus())
        encoder = _encoders[key]
    image = config.image
    return Preprocessor(encoder, image and image.image_px, image is not None and image.trim_border, LIMITS)


def classifier(
    config: ModelConfig, processor: Preprocessor | None = None, seed: int = 0
) -> ProductClassifier:
    torch.manual_seed(seed)
    return build_classifier(config, NUM_CLASSES, processor or preprocessor(config))


def corpus() -> list[str]:
    rng = np.random.default_rng(7)
    return [" ".join(rng.choice(WORDS, 6)) for _ in range(60)]


def photo(seed: int, px: int = 40) -> bytes:
    """A PNG of colored blocks."""
    blocks = np.random.default_rng(seed).integers(0, 220, (4, 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(blocks).resize((px, px), Image.Resampling.NEAREST).save(stream, "PNG")
    return stream.getvalue()


def product(seed: int, *, text: bool = True, image: bool = True) -> Product:
    rng = np.random.default_rng(seed)
    title, description = (" ".join(rng.choice(WORDS, size)) for size in (3, int(rng.integers(1, 9))))
    return Product(title if text else None, description if text else None, photo(seed) if image else None)


def mixed_products() -> list[Product]:
    """Both, text only, image only, neither, and both again: every state in one batch."""
    states = [(True, True), (True, False), (False, True), (False, False), (True, True)]
    return [product(seed, text=text, image=image) for seed, (text, image) in enumerate(states)]


def batch_of(
    processor: Preprocessor, products: Sequence[Product], labels: Sequence[int] | None = None
) -> Batch:
    encoder = processor.text_encoder
    return collate(
        processor(products),
        pad_id=0 if encoder is None else encoder.pad_id,
        image_px=processor.image_px or 1,
        labels=[index % NUM_CLASSES for index in range(len(products))] if labels is None else labels,
    )


def scatter(num: int, start: int = 0) -> torch.Tensor:
    """`num` float64 of mean 0 and variance 1 that look random, from a formula: alike on every machine and version."""
    count = torch.arange(num, dtype=torch.float64)
    return 3**0.5 * (2 * torch.frac(torch.sin(12.9898 * count + 78.233 * (start + 1)) * 43758.5453).abs() - 1)


def fill(module: nn.Module) -> None:
    """Fixed weights that need no random generator, each near its usual size."""
    with torch.no_grad():
        for position, (name, parameter) in enumerate(sorted(module.named_parameters())):
            values = scatter(parameter.numel(), position).reshape(parameter.shape)
            is_scale = parameter.ndim == 1 and name.endswith("weight")
            size = 0.1 if parameter.ndim <= 1 else (2 / parameter[0].numel()) ** 0.5
            parameter.copy_(is_scale + size * values)


def _yaml(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    values.pop("defaults", None)
    return values


def bundle_of(
    folder: Path, text: str | None, image: str | None, seed: int = 0, **changes: object
) -> Predictor:
    """The Predictor of a new bundle at `folder`."""
    tower = text_config("transformer", **changes) if text == "transformer" else text
    config = model_config(tower, image, "gated" if text and image else None)
    processor = preprocessor(config)
    save_bundle(folder, classifier(config, processor, seed), processor, LABELS, config, lineage={})
    return Predictor.load(folder)
