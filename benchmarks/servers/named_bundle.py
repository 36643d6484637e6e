"""The models that are served to measure servers; where they are used, their names say which.

Their weights are random: how long a matrix product takes does not depend on the numbers in it.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.servers.products import made_up
from rakuten.cli import compose
from rakuten.data.fit_encoder import fit_encoder
from rakuten.data.labels import LabelSet
from rakuten.data.preprocess import Preprocessor
from rakuten.model.bundle import build_classifier, save_bundle
from rakuten.model.bundle_files import INFO
from rakuten.model.onnx_export import export_onnx
from rakuten.model.onnx_files import graphs_of


@dataclass(frozen=True)
class NamedModel:
    """A model without weights: what of `model=fusion` is changed."""

    name: str
    changes: tuple[str, ...]


# The text encoder of MiniLM-L6 (6 layers x 384, 512 tokens) and mobilenetv4_conv_small at 224 px.
SMALL = NamedModel(
    "minilm6-mobilenetv4",
    (
        "model.text.name=minilm6",
        "model.text.max_tokens=512",
        "model.text.vocab_size=8000",
        "model.text.hidden_size=384",
        "model.text.num_layers=6",
        "model.text.num_heads=12",
        "model.image.name=mobilenetv4_conv_small",
    ),
)
# What `model=fusion` is (12 layers x 768, 256 tokens, and ConvNeXt-base at 224 px): for a GPU; and its text encoder beside
# a photo model for processors.
BASE = NamedModel("camembert-base-convnext-base", ("model.text.vocab_size=8000",))
CAMEMBERT = NamedModel(
    "camembert-base-mobilenetv4", (*BASE.changes, "model.image.name=mobilenetv4_conv_small")
)


def build(folder: Path, overrides: list[str], named: NamedModel = SMALL, *, graphs: bool = True) -> Path:
    """The bundle below `folder`, with its ONNX graphs where they are asked for; made where it is not there yet."""
    bundle = folder / named.name / "bundle"
    if (graphs_of(bundle) if graphs else bundle / INFO).exists():
        return bundle
    scratch = ("model.text.pretrained=false", "model.image.pretrained=false", f"model.name={named.name}")
    config = compose("train", ["model=fusion", *scratch, *named.changes, *overrides])
    texts = [f"{product.designation} {product.description or ''}" for product in made_up(2000, seed=7)]
    assert config.model.text is not None
    assert config.model.image is not None
    encoder = fit_encoder(config.model.text, texts)
    preprocessor = Preprocessor(
        encoder, config.model.image.image_px, config.model.image.trim_border, config.data.limits
    )
    labels = config.data.labels
    torch.manual_seed(0)
    classifier = build_classifier(config.model, len(labels.codes), preprocessor)
    label_set = LabelSet(tuple(labels.codes), tuple(labels.names))
    save_bundle(bundle, classifier, preprocessor, label_set, config.model, lineage={})
    if graphs:
        export_onnx(bundle, graphs_of(bundle), quantized=True)
    return bundle
