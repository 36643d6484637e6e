"""A bundle's folder -> a model that answers: checked, loaded, tried on its canaries and warm."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rakuten.errors import RakutenError
from rakuten.model.bundle import Predictor
from rakuten.model.bundle_files import WEIGHTS, check_bundle
from rakuten.model.canary import check_canary
from rakuten.model.onnx_files import graphs_of
from rakuten.model.onnx_runtime import load_runtime
from rakuten.model.reference import REFERENCE, Reference
from rakuten.serve.follow.place import Found
from rakuten.serve.served import Served
from rakuten.serve.settings import ServeSettings
from rakuten.serve.warm import warm_up

_COPIES: Final = 3  # of the weights in memory at the worst moment: the file's, the module's, a graph's
_BASE_BYTES: Final = 200_000_000  # of whatever else loading takes
_CGROUP = Path("/sys/fs/cgroup")


class MemoryShortError(RakutenError):
    """There is no room beside the model that answers."""


Load = Callable[[Found, Path], Served]


def loader(settings: ServeSettings, canaries: Callable[[float], None] | None = None) -> Load:
    """A function: what was found and the folder with its bundle -> a model that answers.

    `canaries` is told the share of canary products that were answered as when they were recorded.

    Raises (that function):
        RakutenError: torn, changed, of another format, or its answers are not those that it was bundled with.
        MemoryShortError: no room for it beside the one that answers.
    """

    def load(found: Found, folder: Path) -> Served:
        check_bundle(folder)
        _require_memory(folder)
        predictor = Predictor.load(folder)
        runtime = load_runtime(
            predictor,
            graphs_of(folder),
            settings.runtime,
            threads=_threads(settings),
            compile=settings.compile,
        )
        canary = check_canary(predictor, runtime)
        if canaries is not None and canary.state == "ok":
            canaries(canary.equal_codes)
        served = Served(
            version=found.version,
            predictor=predictor,
            runtime=runtime,
            bundle=folder,
            known_words=_known_words(folder),
            loaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        warm_up(served, token_budget=settings.token_budget, batch_size=settings.batch_size)
        return served

    return load


def _known_words(folder: Path) -> frozenset[int] | None:
    """None for a bundle that was made before there was a reference."""
    return Reference.load(folder).words() if (folder / REFERENCE).is_file() else None


def _threads(settings: ServeSettings) -> int:
    """Of one call of the model. Batches at once do not divide them: alone, each is as fast as the cores let it be."""
    return settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)


def _require_memory(folder: Path) -> None:
    needed = _BASE_BYTES + _COPIES * (folder / WEIGHTS).stat().st_size
    free = free_bytes()
    if free is not None and needed > free:
        raise MemoryShortError(
            "there is no memory for another model beside the one that answers",
            expected=f"{needed / 1e6:,.0f} MB",
            got=f"{free / 1e6:,.0f} MB free",
            fix="more memory, or fewer workers",
        )


def free_bytes() -> int | None:
    """Memory that this process may still take: the machine's, or the container's where that is less."""
    found = []
    try:
        [line] = [each for each in Path("/proc/meminfo").read_text().splitlines() if "MemAvailable" in each]
        found.append(1024 * int(line.split()[1]))
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            reclaimable = _inactive_file(_CGROUP / "memory.stat")
            found.append(int(limit) - int((_CGROUP / "memory.current").read_text()) + reclaimable)
    except (OSError, ValueError):
        pass  # not Linux, or no such controller: what was found so far counts
    return min(found, default=None)


def _inactive_file(stat: Path) -> int:
    rows = dict(line.split() for line in stat.read_text().splitlines())
    return int(rows.get("inactive_file", 0))
