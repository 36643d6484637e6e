"""ONNX graphs that were made of a bundle, beside the JSON that says of which, how near to torch and how fast.

They are derived: whoever has the bundle can make them again, and graphs of another bundle are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from rakuten.errors import BundleError
from rakuten.model.bundle_files import check_hashes, checksum, read_info

REPORT: Final = "onnx.json"
TORCH, ONNX, INT8 = "torch", "onnx", "onnx-int8"  # names of runtimes
BESIDE: Final = "onnx"  # the graphs' folder, a sibling of the bundle's
AGAIN: Final = "promote the model again: its graphs are written anew"


@dataclass(frozen=True)
class Parity:
    """A runtime's calibrated probabilities against torch in float32, over all products, each also without text, without photo."""

    num_products: int
    max_difference: float
    equal_codes: float  # share
    f1_drop: float | None  # weighted F1 of torch less the runtime's; None where no labels were given


@dataclass(frozen=True)
class Latency:
    """Of one product through towers and head, tokens and pixels to probabilities, in batches of like length."""

    batch_size: int
    median_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Measured:
    """One runtime on the examples; `tolerance` is what its probabilities may be off by, `refused` why it is not chosen."""

    parity: Parity
    latency: tuple[Latency, ...]
    tolerance: float
    refused: str | None


@dataclass(frozen=True)
class ExportReport:
    """What lies in a folder of graphs: onnx.json."""

    bundle: str  # checksum of the bundle's JSON, which holds the hashes of its files
    hashes: dict[str, str]  # sha256 of every file
    graphs: dict[str, dict[str, str]]  # runtime -> text, image, head -> file
    opset: int
    versions: dict[str, str]  # of the libraries that wrote the graphs
    processor: str
    threads: int
    measured: dict[str, Measured]
    chosen: str  # the fastest runtime that is not refused
    quantized: bool = False  # whether 8 bits were asked for; not every model has a part that takes them
    format: int = 1


def read_export(folder: Path, bundle_info: Mapping[str, Any]) -> ExportReport | None:
    """What `folder` holds, when all of it was made of this bundle and is as it was written; None if there is none.

    Raises:
        BundleError: a file is torn or changed, or the graphs are of another bundle.
    """
    if not (folder / REPORT).is_file():
        return None
    info = read_info(folder, REPORT)
    check_hashes(folder, info.get("hashes", {}), REPORT)
    try:
        report = TypeAdapter(ExportReport).validate_python(info)
    except ValidationError as error:
        raise BundleError(
            f"{folder / REPORT} does not fit this version of rakuten",
            got=str(error).splitlines()[0],
            fix=AGAIN,
        ) from error
    if report.bundle != checksum(bundle_info):
        raise BundleError(
            f"the ONNX graphs at {folder} were made of another bundle",
            expected=f"of checksum {checksum(bundle_info)[:12]}",
            got=report.bundle[:12],
            fix=AGAIN,
        )
    return report


def graphs_of(bundle: Path) -> Path:
    """Where the graphs of a bundle's folder lie, if it has any."""
    return bundle.absolute().parent / BESIDE
