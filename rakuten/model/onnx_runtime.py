"""The runtime of a service without GPU: ONNX Runtime over the graphs of a bundle; and which runtime a bundle gets."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from rakuten.errors import BundleError
from rakuten.model.bundle import Predictor
from rakuten.model.onnx_files import AGAIN, TORCH, read_export
from rakuten.model.process_runtime import ProcessRuntime
from rakuten.model.runtime import Floats, Mask, Runtime, TorchRuntime

_LOG = logging.getLogger(__name__)
Choice = Literal["auto", "torch", "onnx", "onnx-int8"]
_ERRORS_ONLY: Final = 3
# onnxruntime's fused skip connection and layer norm is not vectorized: six times slower than the two apart, and with it
# a transformer of short texts in 8 bits a quarter slower.
_SLOWER_FUSED: Final = ["SkipLayerNormFusion"]


class OnnxRuntime:
    """One session on the CPU for each graph: {text, image, head: file in `folder`}.

    `threads` is what a call may use, 0 for one a core. They do not spin while they wait, since whoever reads requests
    and decodes photos needs the same cores.

    Raises:
        BundleError: onnxruntime cannot load a graph.
    """

    def __init__(
        self, folder: Path, graphs: Mapping[str, str], *, name: str, tolerance: float, threads: int = 0
    ):
        self.name, self.tolerance = name, tolerance
        self._sessions = {graph: _open(folder / file, threads) for graph, file in graphs.items()}
        self._widths = {graph: s.get_outputs()[0].shape[-1] for graph, s in self._sessions.items()}
        self.text_dim: int | None = self._widths.get("text")
        self.image_dim: int | None = self._widths.get("image")
        self._head_inputs = [each.name for each in self._sessions["head"].get_inputs()]

    def text(self, tokens: NDArray[np.int64], weights: Floats) -> Floats:
        return self._run("text", {"tokens": tokens, "weights": weights})

    def image(self, pixels: NDArray[np.uint8]) -> Floats:
        return self._run("image", {"pixels": pixels})

    def head(self, text: Floats | None, image: Floats | None, has_text: Mask, has_image: Mask) -> Floats:
        given = {"text": text, "image": image, "has_text": has_text, "has_image": has_image}
        return self._run("head", {name: given[name] for name in self._head_inputs})

    def _run(self, graph: str, inputs: dict[str, Any]) -> Floats:
        if len(next(iter(inputs.values()))) == 0:  # graphs are free in their batch from one on
            return np.empty((0, self._widths[graph]), dtype=np.float32)
        result: Floats = self._sessions[graph].run(None, inputs)[0]
        return result


def load_runtime(
    predictor: Predictor,
    folder: Path | None,
    choice: Choice = "auto",
    *,
    device: str | None = None,
    threads: int = 0,
    compile: bool = True,
) -> Runtime:
    """What shall compute a bundle's answers.

    Torch on a GPU where there is one (bfloat16, in a process of its own), else what was fastest when the graphs in `folder` were
    written; torch where there are none. A `choice` other than auto is obeyed.

    Args:
        device: cpu or cuda; None takes a GPU where there is one.
        threads: what one call may use on a CPU; 0 leaves it to the library. Torch's are those of the whole process.
        compile: on a GPU, as soon as the compiler is done.

    Raises:
        BundleError: graphs are torn or of another bundle, or those that `choice` asks for are not there.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if choice == TORCH or (choice == "auto" and device != "cpu"):
        return _torch(predictor, device, threads, compile)
    report = None if folder is None else read_export(folder, predictor.info)
    if report is None or folder is None:
        if choice != "auto":
            raise BundleError(f"serve.runtime={choice}, and there are no ONNX graphs at {folder}", fix=AGAIN)
        _LOG.info("no ONNX graphs beside the bundle: serving with torch on the CPU")
        return _torch(predictor, device, threads, compile)
    name = report.chosen if choice == "auto" else choice
    if name == TORCH:
        return _torch(predictor, device, threads, compile)
    if name not in report.graphs:
        raise BundleError(
            f"serve.runtime={name}, and there are no such graphs at {folder}",
            expected=f"one of {', '.join([TORCH, *report.graphs])}",
            fix="promote it again with int8 asked for; only a transformer's text tower has them",
        )
    if (refused := report.measured[name].refused) is not None:
        _LOG.warning("serve.runtime=%s is obeyed, although %s", name, refused)
    tolerance = report.measured[name].tolerance
    return OnnxRuntime(folder, report.graphs[name], name=name, tolerance=tolerance, threads=threads)


def _torch(predictor: Predictor, device: str, threads: int, compile: bool) -> Runtime:
    if device == "cpu":
        if threads:
            torch.set_num_threads(threads)
        return TorchRuntime(predictor.classifier)
    assert predictor.path is not None, "a GPU's process loads the bundle from its folder"
    return ProcessRuntime(predictor.path, device, compile=compile)


def _open(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER_FUSED
        )
    except (
        Exception
    ) as error:  # onnxruntime has an exception for each of its status codes, and no base of them
        raise BundleError(
            f"onnxruntime cannot load {path}", got=str(error).partition("\n")[0], fix=AGAIN
        ) from error
