"""The runtime of a service with a GPU: torch in a process of its own, beside the one that reads requests.

A model on a GPU is a thousand short calls, before each of which torch lets go of Python's lock and after which it wants it
back. Beside threads that read JSON and photos the calls wait for each other, and the GPU for them: on an H200 the same
model answered 1,765 products a second alone and 12 in the process of the service.
"""

import logging
import math
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rakuten.errors import BundleError
from rakuten.model.model_process import COMPILED, EAGER, Failed, Ready
from rakuten.model.runtime import Floats, Mask

_LOG = logging.getLogger(__name__)
_MAIN: Final = (  # signals first: what comes while torch is loaded is not for it either
    "import signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)];"
    "from rakuten.model.model_process import main; main()"
)
_READY_S: Final = 1800.0  # of a compiler too
_RETRY_S: Final = 10.0
_END_S: Final = 5.0
_ANSWER_S: Final = 60.0  # of one batch: longer than any takes, and a device that hangs is not waited for


class ProcessRuntime:
    """A bundle's model on `device` in a process of its own; one batch at a time.

    Not compiled at first, so that it is ready without that. With `compile` another process compiles it meanwhile and
    takes over when it is done; where the compiler fails, a line in the log says so and the first one goes on.

    Where a process ends while it answers, or hangs, another one is started and asked once more. Later ones have the
    weights of the first, or are refused.

    Raises:
        BundleError: the model cannot be loaded there.
        RuntimeError (text, image, head): the model failed on this batch, or its process ended and no other one answers.
    """

    def __init__(self, bundle: Path, device: str = "cuda", *, compile: bool = True):
        self._bundle, self._device, self._compiles = bundle, device, compile
        self._lock = threading.Lock()
        self._compiling: threading.Thread | None = None
        self._failed_at = -math.inf
        self._process: _Process | None = _Process(bundle, device, EAGER)
        self._facts = facts = self._process.ready()
        self.name, self.tolerance = facts.name, facts.tolerance
        self.text_dim, self.image_dim = facts.text_dim, facts.image_dim
        self._begin_compiling()

    @property
    def is_compiled(self) -> bool:
        return self._process is not None and self._process.kind == COMPILED

    @property
    def pid(self) -> int | None:
        """Of the process that answers; None between two."""
        return None if self._process is None else self._process.pid

    def text(self, tokens: NDArray[np.int64], weights: Floats) -> Floats:
        return self._ask("text", tokens, weights)

    def image(self, pixels: NDArray[np.uint8]) -> Floats:
        return self._ask("image", pixels)

    def head(self, text: Floats | None, image: Floats | None, has_text: Mask, has_image: Mask) -> Floats:
        return self._ask("head", text, image, has_text, has_image)

    def _ask(self, method: str, *arrays: NDArray[Any] | None) -> Floats:
        with self._lock:
            try:
                answer = self._once(method, arrays)
            except (EOFError, OSError):
                _LOG.warning("the model's process ended while it answered; another one is asked")
                try:
                    answer = self._once(method, arrays)
                except (EOFError, OSError) as error:
                    raise RuntimeError("the model's process ended twice while it answered") from error
        if isinstance(answer, Failed):
            raise RuntimeError(answer.reason)
        found: Floats = answer
        return found

    def _once(self, method: str, arrays: tuple[NDArray[Any] | None, ...]) -> Any:
        self._process = self._process or self._again()
        try:
            return self._process.ask(method, arrays)
        except BaseException:  # an interrupt too: an answer that nobody read would be the next one's
            self._process.kill()
            self._process = None
            raise

    def _again(self) -> "_Process":
        """Another process, unless one could not be started just now: a batch that failed is asked for item by item."""
        if time.monotonic() < self._failed_at + _RETRY_S:
            raise RuntimeError("the model's process ended, and no other one could be started")
        try:
            process = _Process(self._bundle, self._device, EAGER)
            self._require_same(process.ready())
        except (BundleError, OSError) as error:
            self._failed_at = time.monotonic()
            raise RuntimeError(
                f"the model's process ended, and no other one could be started: {error}"
            ) from error
        self._begin_compiling()
        return process

    def _require_same(self, facts: Ready) -> None:
        if facts != self._facts:
            raise BundleError(f"the bundle at {self._bundle} is not the one that was loaded first")

    def _begin_compiling(self) -> None:
        if self._compiles and (self._compiling is None or not self._compiling.is_alive()):
            self._compiling = threading.Thread(
                target=_compile,
                args=(weakref.ref(self), self._bundle, self._device),
                name="compiling",
                daemon=True,
            )
            self._compiling.start()

    def take_over(self, compiled: "_Process", facts: Ready) -> None:
        """From now on `compiled` answers.

        Raises:
            BundleError: it has other weights.
        """
        self._require_same(facts)
        with self._lock:
            self._process = compiled


def _compile(wanted: "weakref.ref[ProcessRuntime]", bundle: Path, device: str) -> None:
    """Minutes, in which the runtime may be let go of: then its compiling process ends too."""
    try:
        compiled = _Process(bundle, device, COMPILED)
        if (runtime := wanted()) is None:
            return
        weakref.finalize(runtime, compiled.kill).atexit = False
        del runtime
        facts = compiled.ready()
        if (runtime := wanted()) is not None:
            runtime.take_over(compiled, facts)
            _LOG.info("the model is compiled")
    except (BundleError, OSError) as error:
        if wanted() is not None:
            _LOG.warning("not compiled, going on without: %s", str(error).partition("\n")[0])


class _Process:
    """One process with the model; it ends when nobody holds this any more."""

    def __init__(self, bundle: Path, device: str, kind: str):
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _MAIN),
                    *(str(theirs.fileno()), str(os.getpid()), str(bundle), device, kind),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self.pid, self.kind, self.kill = process.pid, kind, process.kill
        self._device = device
        self._pipe = Connection(ours.detach())
        self._end = weakref.finalize(self, _end, self._pipe, process)
        self._end.atexit = False  # the pipe ends with this process

    def ready(self) -> Ready:
        """Waits, once, until the model is loaded.

        Raises:
            BundleError: it cannot be.
        """
        try:
            said = self._pipe.recv() if self._pipe.poll(_READY_S) else Failed("it takes too long")
        except (EOFError, OSError):
            said = Failed("its process ended")
        if isinstance(said, Ready):
            return said
        self.kill()
        raise BundleError(f"the model cannot be loaded on {self._device}: {said.reason}")

    def ask(self, method: str, arrays: tuple[NDArray[Any] | None, ...]) -> Any:
        """
        Raises:
            OSError, EOFError: the process ended, or does not answer and was ended.
        """
        self._pipe.send((method, arrays))
        if not self._pipe.poll(_ANSWER_S):
            self.kill()
            raise TimeoutError(f"no answer within {_ANSWER_S:g} s")
        return self._pipe.recv()


def _end(pipe: Connection, process: "subprocess.Popen[bytes]") -> None:
    """At the end of the pipe the process goes; in a thread, since whoever lets go of it last may be an event loop."""
    pipe.close()

    def wait() -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
            return
        process.kill()
        process.wait()

    threading.Thread(target=wait, name="ending", daemon=True).start()
