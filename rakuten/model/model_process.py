"""A model in a process of its own, which answers what comes through a pipe; `process_runtime` starts it.

python -m rakuten.model.model_process FD BUNDLE DEVICE eager|compiled
"""

import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from rakuten.model.bundle import Predictor
from rakuten.model.bundle_files import WEIGHTS
from rakuten.model.canary import check_canary
from rakuten.model.runtime import Floats, Precision, TorchRuntime

COMPILED, EAGER = "compiled", "eager"
_BATCHES: Final = (2, 1, 16)  # torch compiles once for one product, once for all other numbers
_LENGTHS: Final = (8, 64)
# Of a compiled tower's features, in their length: a wrong kernel is off by far more.
_OFF: Final = {"fp32": 1e-3, "bf16": 0.05}


@dataclass(frozen=True)
class Ready:
    """What a process says once, when it can answer."""

    weights: str  # sha256 of the file
    name: str
    text_dim: int | None
    image_dim: int | None
    tolerance: float


@dataclass(frozen=True)
class Failed:
    """An answer that is none; an exception itself may not survive the pipe."""

    reason: str


def main() -> None:
    """Arguments: the pipe's descriptor, the starter's process, the bundle's folder, a device, `eager` or `compiled`."""
    descriptor, parent, bundle, device, kind = sys.argv[1:]
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    with Connection(int(descriptor)) as pipe, suppress(EOFError, BrokenPipeError):
        try:
            runtime, weights = _load(Path(bundle), device, compiled=kind == COMPILED)
        except Exception as error:  # whatever it is, the one who waits is to know
            pipe.send(Failed(f"{type(error).__name__}: {error}"))
            return
        pipe.send(Ready(weights, runtime.name, runtime.text_dim, runtime.image_dim, runtime.tolerance))
        while True:
            method, arrays = pipe.recv()
            pipe.send(_answer(runtime, method, arrays))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)  # in the middle of a batch or of a compilation: nobody waits for it any more


def _answer(runtime: TorchRuntime, method: str, arrays: tuple[Any, ...]) -> Any:
    try:
        return getattr(runtime, method)(*arrays)
    except (
        torch.AcceleratorError
    ):  # the device takes nothing more from this process: another one is to be started
        raise
    except Exception as error:  # of one batch; the next one may be well
        return Failed(f"{type(error).__name__}: {error}")


def _load(bundle: Path, device: str, *, compiled: bool) -> tuple[TorchRuntime, str]:
    predictor = Predictor.load(bundle)
    precision: Precision = "bf16" if device != "cpu" and torch.cuda.is_bf16_supported() else "fp32"
    runtime = TorchRuntime(predictor.classifier, device, precision=precision, compile=compiled)
    if compiled:
        eager = TorchRuntime(predictor.classifier, device, precision=precision)
        image_px = predictor.preprocessor.image_px
        for products in _BATCHES:
            for found, expected in zip(
                _run(runtime, products, image_px), _run(eager, products, image_px), strict=True
            ):
                if not np.linalg.norm(found - expected) <= _OFF[precision] * np.linalg.norm(expected):
                    raise RuntimeError("the compiled model does not answer as the model does")
        if not runtime.is_compiled:
            raise RuntimeError("torch.compile failed, as the log says")
        torch.compiler.set_stance("eager_on_recompile")  # no request waits for a compiler
        check_canary(predictor, runtime)
    return runtime, predictor.info["hashes"][WEIGHTS]


def _run(runtime: TorchRuntime, products: int, image_px: int | None) -> list[Floats]:
    """What its graphs make of made-up inputs."""
    found = []
    if runtime.text_dim is not None:
        for length in _LENGTHS:
            weights = np.ones((products, length), dtype=np.float32)
            found.append(runtime.text(weights.astype(np.int64), weights))
    if runtime.image_dim is not None:
        size = (products, 3, image_px or 1, image_px or 1)
        found.append(runtime.image(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)))
    text, image = (
        None if width is None else np.ones((products, width), dtype=np.float32)
        for width in (runtime.text_dim, runtime.image_dim)
    )
    found.append(runtime.head(text, image, np.full(products, True), np.full(products, True)))
    return found
