"""Towers and head as ONNX files: dynamic batch and length, uint8 photos in, int8 weights by choice."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from rakuten.errors import BundleError
from rakuten.model.classifier import ProductClassifier
from rakuten.model.onnx_files import INT8, ONNX
from rakuten.model.text import NgramTower, TransformerTower
from rakuten.model.tower import Tower

OPSET: Final = 23  # the first that has attention as one operator: up to 4 % faster than its steps
INLINE_BYTES: Final = 1_500_000_000  # protobuf ends at 2 GiB; weights beyond this lie in a file of their own


class _Ngrams(nn.Module):
    """NgramTower by a gather and a product of matrices: ONNX has no embedding bag, the exporter makes a loop of it."""

    def __init__(self, tower: NgramTower):
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor, weights: Tensor) -> Tensor:
        shares = torch.where(tokens == 0, 0, self.tower.shares(tokens, weights))
        bag = torch.bmm(shares[:, None], self.tower.embedding(tokens))[:, 0]
        pooled: Tensor = self.tower.norm(bag + self.tower.bias)
        return pooled


class _Graph(nn.Module):
    """The exporter names inputs by what `forward` calls them."""

    def __init__(self, part: nn.Module):
        super().__init__()
        self.part: Any = part


class _Text(_Graph):
    def forward(self, tokens: Tensor, weights: Tensor) -> Tensor:
        pooled: Tensor = self.part(tokens, weights).pooled
        return pooled


class _Image(_Graph):
    def forward(self, pixels: Tensor) -> Tensor:
        pooled: Tensor = self.part(pixels).pooled
        return pooled


class _Head(_Graph):
    def forward(self, text: Tensor, image: Tensor, has_text: Tensor, has_image: Tensor) -> Tensor:
        logits: Tensor = self.part.head(text, image, has_text, has_image).fused
        return logits


class _TextHead(_Graph):
    def forward(self, text: Tensor, has_text: Tensor) -> Tensor:
        logits: Tensor = self.part.head(text, None, has_text, ~has_text).fused
        return logits


class _ImageHead(_Graph):
    def forward(self, image: Tensor, has_image: Tensor) -> Tensor:
        logits: Tensor = self.part.head(None, image, ~has_image, has_image).fused
        return logits


def write_graphs(
    classifier: ProductClassifier, image_px: int | None, folder: Path, *, quantized: bool
) -> dict[str, dict[str, str]]:
    """Write text.onnx, image.onnx and head.onnx as far as the model has them: {runtime: {graph: file}}.

    With `quantized`, text.int8.onnx too where the text tower is a transformer: n-grams have no matrix product, a head
    is too small to gain, and convolutions lose more than they gain.

    Raises:
        BundleError: the exporter cannot write this architecture.
    """
    classifier.eval().requires_grad_(False)
    towers = classifier.towers
    plain: dict[str, str] = {}
    int8: dict[str, str] = {}
    if "text" in towers:
        plain["text"], name = _write_text(towers["text"], folder, quantized)
        int8 = {"text": name} if name else {}
    if "image" in towers:
        assert image_px is not None
        pixels = torch.zeros(3, 3, image_px, image_px, dtype=torch.uint8)
        model = _export(_Image(towers["image"]), {"pixels": pixels}, "image")
        plain["image"] = _save(model, folder / "image.onnx")
    features = {name: torch.randn(3, tower.out_dim) for name, tower in towers.items()}
    inputs = features | {f"has_{name}": torch.tensor([True, False, True]) for name in towers}
    head = {("text", "image"): _Head, ("text",): _TextHead, ("image",): _ImageHead}[tuple(towers)]
    plain["head"] = _save(_export(head(classifier), inputs, "head"), folder / "head.onnx")
    return {ONNX: plain} | ({INT8: plain | int8} if int8 else {})


def _write_text(tower: Tower, folder: Path, quantized: bool) -> tuple[str, str | None]:
    """The files of the text tower, in float32 and in int8."""
    tokens = torch.tensor([[5, 6, 7, 8, 9, 5, 6], [7, 8, 9, 0, 0, 0, 0], [5, 6, 7, 8, 0, 0, 0]])
    inputs = {"tokens": tokens, "weights": (tokens > 0).float()}
    if isinstance(tower, NgramTower):
        return _save(_export(_Ngrams(tower), inputs, "text"), folder / "text.onnx"), None
    assert isinstance(tower, TransformerTower)
    name = _save(_export(_Text(tower), inputs, "text"), folder / "text.onnx")
    return name, _quantize(folder / name, folder / "text.int8.onnx") if quantized else None


def _export(graph: nn.Module, inputs: dict[str, Tensor], name: str) -> Any:
    """onnx_ir.Model of a graph whose first dimension is free, of texts the second too."""
    free = (0, 1) if name == "text" else (0,)
    shapes = {key: dict.fromkeys(free, torch.export.Dim.DYNAMIC) for key in inputs}
    try:
        with _quiet():
            program = torch.onnx.export(
                graph.eval(),
                kwargs=inputs,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=list(inputs),
                output_names=["logits" if name == "head" else "features"],
                verbose=False,
                opset_version=OPSET,
            )
    except Exception as error:  # the exporter raises whatever other people's architectures make it trip over
        raise BundleError(
            f"the {name} of this model cannot be written as ONNX",
            got=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
            fix="serve.runtime=torch serves any architecture",
        ) from error
    assert program is not None
    return program.model


def _quantize(source: Path, target: Path) -> str:
    """Matrix products with int8 weights, one scale an output channel, activations quantized as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            extra_options={"MatMulConstBOnly": True},
            use_external_data_format=_is_large(source),
        )
    return target.name


def _save(model: Any, path: Path) -> str:
    import onnx_ir

    size_bytes = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    onnx_ir.save(model, path, external_data=f"{path.name}.data" if size_bytes > INLINE_BYTES else None)
    return path.name


def _is_large(path: Path) -> bool:
    return path.with_name(f"{path.name}.data").is_file()


@contextmanager
def _quiet() -> Iterator[None]:
    """What exporters and quantizers warn of is about their own insides; what they get wrong, parity shows."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
