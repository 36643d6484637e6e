"""Scripts run as a shell would run them, but forked from a process that has the heavy imports behind it.

The script itself, its arguments, folder, output and exit code are the real ones; ten seconds of imports a start are not
paid again. What is killed, or must show what it imports, is started as a process of its own instead.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

PRELOAD = ["rakuten.cli", "rakuten.experiment.train", "rakuten.experiment.predict", "mlflow.tracking"]


def run_forked(
    script: Path,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    timeout_s: float = 300,
) -> "subprocess.CompletedProcess[str]":
    """`python SCRIPT ARGUMENTS` in `folder`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as outputs:
        paths = [Path(outputs) / name for name in ("stdout", "stderr")]
        process = context.Process(
            target=_run, args=(str(script), [*arguments], str(folder), dict(environment), *map(str, paths))
        )
        process.start()
        process.join(timeout_s)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(str(script), timeout_s, stderr=paths[1].read_bytes())
        stdout, stderr = (path.read_text(encoding="utf-8", errors="replace") for path in paths)
    assert process.exitcode is not None
    return subprocess.CompletedProcess(str(script), process.exitcode, stdout, stderr)


def _run(
    script: str, arguments: list[str], folder: str, environment: dict[str, str], stdout: str, stderr: str
) -> None:
    for number, path in ((1, stdout), (2, stderr)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()
