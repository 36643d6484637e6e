"""ONNX graphs of a bundle, made before it is published, so that whoever serves it has the fastest that is right."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from rakuten.data.preprocess import Example
from rakuten.errors import BundleError
from rakuten.experiment.tracking.registry import Registry
from rakuten.model.bundle_files import check_bundle
from rakuten.model.onnx_files import BESIDE, ExportReport, graphs_of, read_export

Labelled = tuple[list[Example], NDArray[np.int64]]  # N held-out products and their (N,) class indices


def add_graphs(
    bundle: Path,
    run_id: str,
    registry: Registry,
    console: Console,
    *,
    int8: bool,
    labelled: Callable[[], Labelled],
) -> None:
    """Graphs beside the bundle and among the run's artifacts, measured against torch.

    On the bundle's canary set, or, where 8 bits are asked for, on `labelled` products: what they cost is told in F1.
    Where graphs cannot be made a line says so, and torch serves.
    """
    report = _known(bundle, int8=int8)
    if report is None:
        report = _made(bundle, console, labelled if int8 else None)
        if report is None:
            return
        registry.log_folder(run_id, graphs_of(bundle), BESIDE)
    elif BESIDE not in registry.artifacts(run_id):
        registry.log_folder(run_id, graphs_of(bundle), BESIDE)
    for name, measured in report.measured.items():
        median, parity = measured.latency[0].median_ms, measured.parity.max_difference
        what = (
            f"refused: {measured.refused}" if measured.refused else "served" if name == report.chosen else ""
        )
        console.print(
            escape(f"  {name:<10} {median:6.1f} ms a product, off by {parity:.1e}  {what}"), soft_wrap=True
        )


def _known(bundle: Path, *, int8: bool) -> ExportReport | None:
    """Those that are there, unless they are of something else or lack what is asked for."""
    try:
        report = read_export(graphs_of(bundle), check_bundle(bundle))
    except BundleError:
        return None
    return None if report is not None and int8 and not report.quantized else report


def _made(bundle: Path, console: Console, labelled: Callable[[], Labelled] | None) -> ExportReport | None:
    try:
        from rakuten.model.onnx_export import export_onnx

        if labelled is None:
            return export_onnx(bundle, graphs_of(bundle))
        examples, labels = labelled()
        return export_onnx(bundle, graphs_of(bundle), quantized=True, examples=examples, labels=labels)
    except (BundleError, ImportError) as error:
        console.print(f"no ONNX graphs, torch serves: {escape(str(error).splitlines()[0])}", soft_wrap=True)
        return None
