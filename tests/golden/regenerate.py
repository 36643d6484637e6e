"""Reference numbers, and the only command that writes them: python -m tests.golden.regenerate

towers.json and fusions.json: one tensor each from weights and inputs that a formula gives, so that no random generator
has a say. losses.json: the first five training losses of small fusion models. Regenerate them when a change of the
model is meant, and say in the commit why the numbers moved.
"""

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pydantic import TypeAdapter
from torch import Tensor
from torch.utils.data import DataLoader

from rakuten.config import TrainerConfig
from rakuten.data.batching import Batch
from rakuten.experiment.module import ClassifierModule
from rakuten.model.classifier import ProductClassifier
from rakuten.model.fusion import build_fusion
from rakuten.model.image import build_image_tower
from rakuten.model.text import build_text_tower
from rakuten.model.tower import Tower
from tests.model.tiny import (
    CONF,
    FUSIONS,
    NUM_CLASSES,
    TEXT_KINDS,
    TIMM_NAMES,
    fill,
    image_config,
    model_config,
    optim_config,
    scatter,
    text_config,
)

FOLDER = Path(__file__).parent
NUM_PRODUCTS, NUM_STEPS, KEPT = 6, 5, 8
TRAINED = [
    ("ngram", "test_resnet", "concat"),
    ("transformer", "test_vit", "gated"),
    ("ngram", "test_vit", "late"),
]
# All that decides a number is said here: conf/ may be tuned without touching one.
LEARNING = {"lr": 0.005, "eps": 1e-8, "weight_decay": 0.01, "layer_decay": 0.8, "freeze": 0, "dropout": 0.0}
TEXT = {
    "ngram": {"num_buckets": 300, "embedding_dim": 12, "norm": True, "init_std": 1.0},
    "transformer": {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 120, "pooling": "mean"},
}
OPTIM = {
    "lr": 0.005,
    "weight_decay": 0.01,
    "betas": [0.9, 0.99],
    "warmup": 0.2,
    "grad_clip": 1.0,
    "loss": "cross_entropy",
    "label_smoothing": 0.05,
    "class_weight": "sqrt",
    "ema": 0.0,
}


def towers() -> dict[str, list[list[float]]]:
    """Per tower the first numbers of the pooled features of two products."""
    return {name: _kept(_pooled(name)) for name in (*TEXT_KINDS, *TIMM_NAMES)}


def fusions() -> dict[str, list[list[float]]]:
    """Per fusion the logits of two products."""
    found = {}
    for kind in FUSIONS:
        config = model_config(fusion=kind).fusion
        assert config is not None
        fusion = build_fusion(config, 6, 10, NUM_CLASSES).eval()
        fill(fusion)
        own = _wave(4, NUM_CLASSES)
        with torch.no_grad():
            found[kind] = _kept(
                fusion(_wave(2, 6), _wave(2, 10), own[:2], own[2:], torch.tensor([True, False]))
            )
    return found


def losses() -> dict[str, list[float]]:
    """Per model the training loss of five steps, through the LightningModule, its optimizer and schedule."""
    return {"-".join(kinds): _train(*kinds) for kinds in TRAINED}


NUMBERS = {"towers": towers, "fusions": fusions, "losses": losses}


def _text_tower(kind: str) -> Tower:
    config = text_config(kind, **TEXT[kind], **LEARNING)
    return build_text_tower(config, 120, 1 if kind == "transformer" else 0)


def _pooled(name: str) -> Tensor:
    if name in TEXT_KINDS:
        tower, inputs = _text_tower(name), _texts(name)
    else:
        tower, inputs = build_image_tower(image_config(name, image_px=64, **LEARNING)), (_photos(64),)
    fill(tower)
    with torch.no_grad():
        pooled: Tensor = tower.eval()(*inputs).pooled
    return pooled[:2]


def _train(text: str, image: str, fusion: str) -> list[float]:
    config = model_config(
        text_config(text, **TEXT[text], **LEARNING),
        image_config(image, **LEARNING),
        fusion,
        modality_dropout=0.0,
        aux_text=0.3,
        aux_image=0.3,
        augment=dict.fromkeys(_augmentations(), 0.0),
    )
    assert config.image is not None
    classifier = ProductClassifier(config, NUM_CLASSES, _text_tower(text), build_image_tower(config.image))
    fill(classifier)
    trainer_config = TypeAdapter(TrainerConfig).validate_python(
        yaml.safe_load((CONF / "../trainer/cpu.yaml").read_text(encoding="utf-8")) | {"channels_last": False}
    )
    counts = torch.tensor([3, 2, 1, 4, 5])
    module = ClassifierModule(classifier, config, optim_config(**OPTIM), trainer_config, counts, seed=0)
    recorder = _Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=NUM_STEPS,
        gradient_clip_val=1.0,
        callbacks=[recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader([_batch(text)] * NUM_STEPS, batch_size=None))  # type: ignore[arg-type]
    return recorder.losses


class _Recorder(pl.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(round(float(outputs["loss"]), 6))


def _batch(text: str) -> Batch:
    """Six products: two with both, two with text alone, one with a photo alone, one with nothing."""
    has_text = torch.tensor([True, True, True, False, True, False])
    has_image = torch.tensor([True, False, True, True, False, False])
    tokens, weights = _texts(text)
    return Batch(
        tokens=tokens[:4],
        token_weights=weights[:4],
        pixels=_photos(32)[:3],
        has_text=has_text,
        has_image=has_image,
        labels=torch.tensor([0, 1, 2, 3, 4, 0]),
        rows=torch.arange(NUM_PRODUCTS),
    )


def _texts(kind: str) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([9, 7, 5, 3, 8, 1])
    mask = torch.arange(9) < lengths[:, None]
    ids = 5 + torch.arange(NUM_PRODUCTS * 9).reshape(NUM_PRODUCTS, 9) * 37 % 90
    weights = mask * (1 + 0.1 * (torch.arange(9) % 3))
    return torch.where(mask, ids, 1 if kind == "transformer" else 0), weights.float()


def _photos(px: int) -> Tensor:
    """Blocks of 8 pixels in colors of their own."""
    blocks = scatter(NUM_PRODUCTS * 3 * (px // 8) ** 2).reshape(NUM_PRODUCTS, 3, px // 8, px // 8)
    colors = (128 + 60 * blocks).clamp(0, 255).round().to(torch.uint8)
    return colors.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)


def _wave(*shape: int) -> Tensor:
    return scatter(torch.Size(shape).numel()).float().reshape(shape)


def _augmentations() -> list[str]:
    return list(yaml.safe_load((CONF / "fusion.yaml").read_text(encoding="utf-8"))["augment"])


def _kept(tensor: Tensor) -> list[list[float]]:
    return [[round(float(value), 6) for value in row[:KEPT]] for row in tensor]


def main() -> None:
    for name, compute in NUMBERS.items():
        path = FOLDER / f"{name}.json"
        path.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
