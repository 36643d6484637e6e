"""What computes a model's answers: both towers and the head as three graphs, whichever library runs them.

Towers stand apart from the head so that texts and photos are batched each by their own size, a Shapley value costs four
heads and not four models, and whoever watches the service has the features for nothing.

Shapes: B products, T texts of at most L tokens, M photos of S x S pixels, D_t and D_i the towers' widths, C classes.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rakuten.data.batching import Batch
from rakuten.model.classifier import ProductClassifier

_LOG = logging.getLogger(__name__)
# Of a calibrated probability against torch in float32 on a CPU, on any machine: summing in another order stays far below
# the first, bfloat16's 8 bits of mantissa below the second.
TOLERANCE = 1e-4
TOLERANCE_BF16 = 0.05
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Precision = Literal["fp32", "bf16"]


class Runtime(Protocol):
    """Numpy in, numpy out. Several threads may call at once; a product's answer does not depend on the calls beside it."""

    name: str  # torch, torch-bf16, onnx, onnx-int8
    text_dim: int | None  # D_t; None where the model has no such tower, and its method is not to be called
    image_dim: int | None  # D_i
    tolerance: float  # how far a calibrated probability may be from that of torch in float32

    def text(self, tokens: NDArray[np.int64], weights: Floats) -> Floats:
        """(T, D_t) features of (T, L) token ids and their weights, 0 where padded."""

    def image(self, pixels: NDArray[np.uint8]) -> Floats:
        """(M, D_i) features of (M, 3, S, S) photos."""

    def head(self, text: Floats | None, image: Floats | None, has_text: Mask, has_image: Mask) -> Floats:
        """(B, C) logits before calibration, of (B, D_t) and (B, D_i) features.

        Rows that `has_text` (B,) or `has_image` (B,) calls absent hold whatever: the learned stand-in goes there.
        Features of a tower that the model lacks are None, or ignored.
        """


@dataclass(frozen=True)
class Embeddings:
    """What the towers made of B products: (B, D_t) and (B, D_i), 0 where absent, None without such a tower."""

    text: Floats | None
    image: Floats | None
    has_text: Mask
    has_image: Mask

    def __len__(self) -> int:
        return len(self.has_text)

    def without(self, *, text: bool = False, image: bool = False) -> "Embeddings":
        """The same products with a modality hidden."""
        return replace(self, has_text=self.has_text & (not text), has_image=self.has_image & (not image))


def embed(runtime: Runtime, batch: Batch) -> Embeddings:
    """Both towers over a batch; a tower runs only if a product has its modality."""
    has_text, has_image = batch.has_text.numpy(), batch.has_image.numpy()
    text = image = None
    if runtime.text_dim is not None:
        text = np.zeros((len(batch), runtime.text_dim), dtype=np.float32)
        if has_text.any():
            text[has_text] = runtime.text(batch.tokens.numpy(), batch.token_weights.numpy())
    if runtime.image_dim is not None:
        image = np.zeros((len(batch), runtime.image_dim), dtype=np.float32)
        if has_image.any():
            image[has_image] = runtime.image(batch.pixels.numpy())
    return Embeddings(text, image, has_text, has_image)


def logits_of(runtime: Runtime, embeddings: Embeddings) -> Floats:
    """(B, C) logits before calibration."""
    return runtime.head(embeddings.text, embeddings.image, embeddings.has_text, embeddings.has_image)


class TorchRuntime:
    """The model that was trained, in torch.

    `precision="bf16"` runs under autocast; `compile=True` compiles each graph for whatever shapes come, and where the
    compiler fails, says so and goes on without.
    """

    def __init__(
        self,
        classifier: ProductClassifier,
        device: str = "cpu",
        *,
        precision: Precision = "fp32",
        compile: bool = False,
    ):
        self.name = "torch" if precision == "fp32" else "torch-bf16"
        self.tolerance = TOLERANCE if precision == "fp32" else TOLERANCE_BF16
        self._classifier = classifier.eval().to(device)
        self._device, self._autocast = device, precision == "bf16"
        towers = classifier.towers
        self.text_dim = towers["text"].out_dim if "text" in towers else None
        self.image_dim = towers["image"].out_dim if "image" in towers else None
        wrap = _Compiled if compile else _as_it_is
        self._text, self._image, self._head = (
            wrap(self._run_text),
            wrap(self._run_image),
            wrap(self._run_head),
        )

    @property
    def is_compiled(self) -> bool:
        """Whether all of it is, or will be at its first call."""
        return all(
            isinstance(graph, _Compiled) and graph.works for graph in (self._text, self._image, self._head)
        )

    def text(self, tokens: NDArray[np.int64], weights: Floats) -> Floats:
        return self._call(self._text, tokens, weights)

    def image(self, pixels: NDArray[np.uint8]) -> Floats:
        return self._call(self._image, pixels)

    def head(self, text: Floats | None, image: Floats | None, has_text: Mask, has_image: Mask) -> Floats:
        return self._call(self._head, text, image, has_text, has_image)

    @torch.inference_mode()
    def _call(self, graph: Callable[..., Tensor], *arrays: NDArray[np.generic] | None) -> Floats:
        inputs = [None if array is None else _tensor(array).to(self._device) for array in arrays]
        with torch.autocast(torch.device(self._device).type, torch.bfloat16, enabled=self._autocast):
            result: Floats = graph(*inputs).float().cpu().numpy()
        return result

    def _run_text(self, tokens: Tensor, weights: Tensor) -> Tensor:
        assert self._classifier.text is not None
        pooled: Tensor = self._classifier.text.tower(tokens, weights).pooled
        return pooled

    def _run_image(self, pixels: Tensor) -> Tensor:
        assert self._classifier.image is not None
        pooled: Tensor = self._classifier.image.tower(pixels).pooled
        return pooled

    def _run_head(
        self, text: Tensor | None, image: Tensor | None, has_text: Tensor, has_image: Tensor
    ) -> Tensor:
        return self._classifier.head(text, image, has_text, has_image).fused


def _as_it_is(graph: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return graph


class _Compiled:
    """A graph that torch compiles at its first call; from the first failure of the compiler on, uncompiled."""

    def __init__(self, graph: Callable[..., Tensor]):
        self._eager = graph
        self._compiled: Callable[..., Tensor] | None = torch.compile(graph, dynamic=True)

    @property
    def works(self) -> bool:
        return self._compiled is not None

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        if self._compiled is None:
            return self._eager(*inputs)
        try:
            return self._compiled(*inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # compilers raise whatever they trip over
            result = self._eager(*inputs)  # if this raises too, the inputs were at fault
            self._compiled = None
            _LOG.warning("torch.compile failed, going on without: %s", str(error).partition("\n")[0])
            return result


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))  # torch warns of read-only memory
