"""A model in a process of its own, which answers what comes through a pipe; `process_runtime` starts it.

python -m rakuten.model.model_process FD BUNDLE DEVICE eager|compiled
"""

import os
import signal
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
from rakuten.model.runtime import TorchRuntime

COMPILED, EAGER = "compiled", "eager"
_BATCHES: Final = (2, 1, 3)  # torch compiles once for one product, once for all other numbers
_LENGTHS: Final = (8, 16)


@dataclass(frozen=True)
class Ready:
    """What a process says once, when it can answer."""

    name: str
    text_dim: int | None
    image_dim: int | None
    tolerance: float


@dataclass(frozen=True)
class Failed:
    """An answer that is none; an exception itself may not survive the pipe."""

    reason: str


def main() -> None:
    """Arguments: the pipe's descriptor, the bundle's folder, a device, and `eager` or `compiled`."""
    descriptor, bundle, device, kind = sys.argv[1:]
    # Whoever started it ends it, when all that is in flight has been answered: a Ctrl-C in a terminal is sent to both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with Connection(int(descriptor)) as pipe, suppress(EOFError, BrokenPipeError):
        try:
            runtime = _load(Path(bundle), device, compiled=kind == COMPILED)
        except Exception as error:  # whatever it is, the one who waits is to know
            pipe.send(Failed(f"{type(error).__name__}: {error}"))
            return
        pipe.send(Ready(runtime.name, runtime.text_dim, runtime.image_dim, runtime.tolerance))
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
    except Exception as error:  # of one batch; the next one may be well
        return Failed(f"{type(error).__name__}: {error}")


def _load(bundle: Path, device: str, *, compiled: bool) -> TorchRuntime:
    predictor = Predictor.load(bundle)
    half = device != "cpu" and torch.cuda.is_bf16_supported()
    runtime = TorchRuntime(
        predictor.classifier, device, precision="bf16" if half else "fp32", compile=compiled
    )
    if compiled:
        image = predictor.preprocessor.image_px
        for products in _BATCHES:
            _run(runtime, products, image)
        if not runtime.is_compiled:
            raise RuntimeError("torch.compile failed, as the log says")
        torch.compiler.set_stance("eager_on_recompile")  # no request waits for a compiler
    return runtime


def _run(runtime: TorchRuntime, products: int, image_px: int | None) -> None:
    if runtime.text_dim is not None:
        for length in _LENGTHS:
            runtime.text(
                np.ones((products, length), dtype=np.int64), np.ones((products, length), dtype=np.float32)
            )
    if runtime.image_dim is not None:
        runtime.image(np.zeros((products, 3, image_px or 1, image_px or 1), dtype=np.uint8))
    text, image = (
        None if width is None else np.zeros((products, width), dtype=np.float32)
        for width in (runtime.text_dim, runtime.image_dim)
    )
    runtime.head(text, image, np.full(products, True), np.full(products, True))
