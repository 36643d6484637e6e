"""A bundle -> its ONNX graphs, measured against torch, and the runtime that serves it fastest without being wrong."""

import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from rakuten.data.preprocess import Example
from rakuten.data.text_encoder import Tokens
from rakuten.model.bundle import Predictor
from rakuten.model.bundle_files import checksum, sha256, write_info
from rakuten.model.canary import read_canary
from rakuten.model.onnx_compare import Comparison
from rakuten.model.onnx_files import INT8, ONNX, REPORT, TORCH, ExportReport, Measured
from rakuten.model.onnx_graphs import write_graphs
from rakuten.model.onnx_runtime import OnnxRuntime
from rakuten.model.runtime import TOLERANCE, Runtime, TorchRuntime

FP32_BOUND: Final = 1e-5  # of a calibrated probability, to be chosen
INT8_BOUND: Final = 0.1  # the same; int8 is to keep its codes and its F1 besides
INT8_EQUAL_CODES: Final = 0.98
INT8_F1_DROP: Final = 0.002
_LIBRARIES: Final = ("torch", "onnx", "onnxscript", "onnxruntime", "transformers", "timm")
_MADE_UP: Final = 32  # examples where neither the caller nor the bundle has any


def export_onnx(
    bundle: Path,
    folder: Path,
    *,
    quantized: bool = False,
    examples: Sequence[Example] | None = None,
    labels: NDArray[np.int64] | None = None,
    threads: int = 0,
) -> ExportReport:
    """Write a bundle's graphs into `folder`, whole or not at all; what was there is replaced.

    The fastest runtime (geometric mean of the medians of one product alone and in a batch of 16) is chosen among torch,
    onnx where every calibrated probability is within 1e-5, and onnx-int8, only with `quantized`, where every one is
    within 0.1 and either the weighted F1 drops by at most 0.002 or, without `labels`, 98 % of the codes are equal.

    Args:
        examples: held-out products to compare and time on; the bundle's canary set by default. A thousand say more.
        labels: (N,) class indices of the examples.
        threads: what one call may use, 0 for one a core; the service should ask for the same.

    Raises:
        BundleError: no bundle there, a torn one, or an architecture that cannot be written: torch still serves it.
    """
    predictor = Predictor.load(bundle)
    if examples is None:
        assert labels is None, "labels without examples"
        canary = read_canary(predictor)
        examples = _made_up(predictor) if canary is None else canary.examples
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        partial.chmod(0o755)
        report = _write(predictor, partial, quantized, Comparison(predictor, examples, labels), threads)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return report


def _write(
    predictor: Predictor, folder: Path, quantized: bool, comparison: Comparison, threads: int
) -> ExportReport:
    graphs = write_graphs(predictor.classifier, predictor.preprocessor.image_px, folder, quantized=quantized)
    runtimes: dict[str, Runtime] = {TORCH: TorchRuntime(predictor.classifier)}
    tolerances = {TORCH: TOLERANCE, ONNX: TOLERANCE, INT8: INT8_BOUND}
    for name, files in graphs.items():
        runtimes[name] = OnnxRuntime(folder, files, name=name, tolerance=tolerances[name], threads=threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        measured = comparison.measure(runtimes)
    finally:
        torch.set_num_threads(before)
    measured = {name: replace(each, refused=_refusal(name, each)) for name, each in measured.items()}
    report = ExportReport(
        bundle=checksum(predictor.info),
        hashes={str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()},
        graphs=graphs,
        opset=_opset(folder / graphs[ONNX]["head"]),
        versions={name: version(name) for name in _LIBRARIES},
        processor=platform.processor() or platform.machine(),
        threads=threads,
        measured=measured,
        chosen=min(
            (name for name in measured if measured[name].refused is None), key=lambda n: _cost(measured[n])
        ),
        quantized=quantized,
    )
    write_info(folder, asdict(report), REPORT)
    return report


def _refusal(name: str, measured: Measured) -> str | None:
    """Why a runtime may not be chosen."""
    parity = measured.parity
    bound = {TORCH: np.inf, ONNX: FP32_BOUND, INT8: INT8_BOUND}[name]
    if not parity.max_difference <= bound:
        return f"a probability is off by {parity.max_difference:.2g}, allowed are {bound:.2g}"
    if name == INT8 and parity.f1_drop is None and parity.equal_codes < INT8_EQUAL_CODES:
        return f"{parity.equal_codes:.1%} of the codes are equal, expected {INT8_EQUAL_CODES:.1%}"
    if name == INT8 and parity.f1_drop is not None and parity.f1_drop > INT8_F1_DROP:
        return f"the weighted F1 drops by {parity.f1_drop:.4f}, allowed are {INT8_F1_DROP:.4f}"
    return None


def _cost(measured: Measured) -> float:
    return float(np.exp(np.mean([np.log(each.median_ms) for each in measured.latency])))


def _opset(path: Path) -> int:
    import onnx

    model = onnx.load(path, load_external_data=False)
    return int(next(each.version for each in model.opset_import if each.domain == ""))


def _made_up(predictor: Predictor) -> list[Example]:
    """Noise of the right shape, of a bundle that has no canary set."""
    rng = np.random.default_rng(0)
    encoder, side = predictor.preprocessor.text_encoder, predictor.preprocessor.image_px
    made = []
    for _ in range(_MADE_UP):
        text = encoder and encoder.encode([" ".join(rng.choice(list("aeiourstln"), 60))], [""])[0]
        pixels = None if side is None else rng.integers(0, 256, (3, side, side), dtype=np.uint8)
        made.append(Example(text if isinstance(text, Tokens) and len(text) else None, pixels))
    return made
