"""The runtime of a service with a GPU: torch in a process of its own, beside the one that reads requests.

A model on a GPU is a thousand short calls, before each of which torch lets go of Python's lock and after which it wants it
back. Beside threads that read JSON and photos the calls wait for each other, and the GPU for them: on an H200 the same
model answered 1,765 products a second alone and 12 in the process of the service.
"""

import logging
import socket
import subprocess
import sys
import threading
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
_END_S: Final = 5.0
_ANSWER_S: Final = 60.0  # of one batch: longer than any takes, and a device that hangs is not waited for


class ProcessRuntime:
    """A bundle's model on `device` in a process of its own; one batch at a time.

    Not compiled at first, so that it is ready without that. With `compile` another process compiles it meanwhile and
    takes over when it is done; where the compiler fails, a line in the log says so and the first one goes on.

    Where a process ends while it answers, or hangs, another one is started and asked once more.

    Raises:
        BundleError: the model cannot be loaded there.
        RuntimeError (text, image, head): the model failed on this batch, or its process ended twice.
    """

    def __init__(self, bundle: Path, device: str = "cuda", *, compile: bool = True):
        self._bundle, self._device, self._compiles = bundle, device, compile
        self._lock = threading.Lock()
        self._compiling: threading.Thread | None = None
        self._process: _Process | None = self._started()
        facts = self._process.facts
        self.name, self.tolerance = facts.name, facts.tolerance
        self.text_dim, self.image_dim = facts.text_dim, facts.image_dim

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
                answer = self._there().ask(method, arrays)
            except (EOFError, OSError):
                self._process = None
                _LOG.warning("the model's process ended while it answered; another one is asked")
                answer = self._again(method, arrays)
        if isinstance(answer, Failed):
            raise RuntimeError(answer.reason)
        found: Floats = answer
        return found

    def _again(self, method: str, arrays: tuple[NDArray[Any] | None, ...]) -> Any:
        try:
            return self._there().ask(method, arrays)
        except (EOFError, OSError) as error:
            self._process = None
            raise RuntimeError("the model's process ended twice while it answered") from error

    def _there(self) -> "_Process":
        if self._process is None:
            self._process = self._started()
        return self._process

    def _started(self) -> "_Process":
        process = _Process(self._bundle, self._device, EAGER)
        if self._compiles and (self._compiling is None or not self._compiling.is_alive()):
            self._compiling = threading.Thread(target=self._compile, name="compiling", daemon=True)
            self._compiling.start()
        return process

    def _compile(self) -> None:
        try:
            compiled = _Process(self._bundle, self._device, COMPILED)
        except BundleError as error:
            _LOG.warning("not compiled, going on without: %s", error.problem)
            return
        with self._lock:
            self._process = compiled
        _LOG.info("the model is compiled")


class _Process:
    """One process with the model; it ends when nobody holds this any more."""

    def __init__(self, bundle: Path, device: str, kind: str):
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-c", "from rakuten.model.model_process import main; main()"),
                    *(str(theirs.fileno()), str(bundle), device, kind),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self.pid, self.kind, self._kill = process.pid, kind, process.kill
        self._pipe = Connection(ours.detach())
        self._end = weakref.finalize(self, _end, self._pipe, process)
        self._end.atexit = False  # the pipe ends with this process
        try:
            said = self._pipe.recv()
        except (EOFError, OSError):
            said = Failed("its process ended")
        if not isinstance(said, Ready):
            self._end()
            raise BundleError(f"the model cannot be loaded on {device}: {said.reason}")
        self.facts = said

    def ask(self, method: str, arrays: tuple[NDArray[Any] | None, ...]) -> Any:
        """
        Raises:
            OSError, EOFError: the process ended, or does not answer and was ended.
        """
        self._pipe.send((method, arrays))
        if not self._pipe.poll(_ANSWER_S):
            self._kill()
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
