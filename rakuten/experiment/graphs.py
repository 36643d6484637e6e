"""ONNX graphs of a bundle, made before it is published, so that whoever serves it has the fastest that is right."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from rakuten.errors import BundleError
from rakuten.experiment.tracking.registry import Registry
from rakuten.model.bundle_files import check_bundle
from rakuten.model.onnx_files import BESIDE, INT8, ExportReport, graphs_of, read_export


def add_graphs(bundle: Path, run_id: str, registry: Registry, console: Console, *, int8: bool) -> None:
    """Graphs beside the bundle and among the run's artifacts, measured against torch on the bundle's canary set.

    Where they cannot be made a line says so, and torch serves.
    """
    report = _known(bundle, int8=int8)
    if report is None:
        report = _made(bundle, console, int8=int8)
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
    return None if report is not None and int8 and INT8 not in report.measured else report


def _made(bundle: Path, console: Console, *, int8: bool) -> ExportReport | None:
    try:
        from rakuten.model.onnx_export import export_onnx

        return export_onnx(bundle, graphs_of(bundle), quantized=int8)
    except (BundleError, ImportError) as error:
        console.print(f"no ONNX graphs, torch serves: {escape(str(error).splitlines()[0])}", soft_wrap=True)
        return None
