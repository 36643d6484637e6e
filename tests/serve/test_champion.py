"""The champion as the engine sees it: followed, swapped, and never worse than the last good one."""

import asyncio
import gc
import json
import logging
import os
import shutil
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from rakuten.data.preprocess import Product
from rakuten.serve import loading
from rakuten.serve.champion import Champion
from rakuten.serve.follow.group import Group
from rakuten.serve.follow.local import Local
from rakuten.serve.follow.place import Found
from rakuten.serve.loading import Load, loader
from rakuten.serve.served import Served
from rakuten.serve.settings import ServeSettings, load_settings
from tests.serve.bad_bundles import BAD, broken
from tests.serve.process import promote


class Told:
    """What is counted."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.num_refused = 0

    def serves(self, version: str, load_s: float) -> None:
        self.served.append(version)

    def refused(self) -> None:
        self.num_refused += 1


class Bench:
    """A champion over a pointer of its own, looked for only when a test says so."""

    def __init__(self, folder: Path):
        self.outputs, self.told = folder / "outputs", Told()
        self.outputs.mkdir()
        self.settings: ServeSettings = load_settings(champion=str(self.outputs / "champion.json"), log="")
        self.champion = self.worker()

    def worker(self, pid: int | None = None, load: Load | None = None) -> Champion:
        """One worker of the service; `pid` is any process that lives."""
        place, seat = Local(Path(self.settings.champion), "no-such-model"), Group(self.outputs / "group", pid)
        return Champion(place, load or loader(self.settings), seat, poll_s=3600, watcher=self.told)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    return Bench(tmp_path)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_it_answers_with_what_is_published_and_swaps_to_the_next(
    bench: Bench, bundle: Path, other_bundle: Path
) -> None:
    async def main() -> None:
        promote(bench.outputs, bundle, "1")
        champion = bench.champion
        await champion.start()
        first = champion.current
        assert first is not None
        assert first.version == "1"
        await champion.look()
        assert champion.current is first, "the same publication is not loaded again"
        promote(bench.outputs, other_bundle, "2")
        await champion.look()
        second = champion.current
        assert second is not None
        assert second.version == "2"
        product = Product("Piscine ronde")
        assert first.predictor.predict([product]) != second.predictor.predict([product])
        assert bench.told.served == ["1", "2"]
        gone = weakref.ref(first)
        del first
        gc.collect()
        assert gone() is None, "the old model's memory is given back"
        await champion.aclose()

    run(main())


def test_it_follows_by_itself_and_at_once_when_asked(bench: Bench, bundle: Path, other_bundle: Path) -> None:
    async def main() -> None:
        promote(bench.outputs, bundle, "1")
        await bench.champion.start()
        promote(bench.outputs, other_bundle, "2")
        bench.champion.ask()
        while bench.champion.current is None or bench.champion.current.version != "2":
            await asyncio.sleep(0.02)
        await bench.champion.aclose()

    run(main())


@pytest.mark.parametrize(("breaks", "says"), BAD.items(), ids=[each.__name__ for each in BAD])
def test_a_bad_bundle_is_refused_and_the_last_good_one_goes_on(
    bench: Bench,
    bundle: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[Path], None],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        champion = bench.champion
        bad = tmp_path / "bad"
        shutil.copytree(bundle, bad)
        # What is published and breaks later: publishing itself checks.
        pointer = promote(bench.outputs, bad, "7")
        shutil.rmtree(bad)
        broken(bundle, bad, breaks)
        await champion.start()
        assert champion.current is None
        assert champion.problem is not None
        assert says in champion.problem
        assert "version 7" in champion.problem
        assert "\n" not in champion.problem
        assert bench.told.num_refused == 1

        promote(bench.outputs, bundle, "8")
        await champion.look()
        good = champion.current
        assert good is not None
        assert good.version == "8"
        assert champion.problem is None

        pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"version": "9", "bundle": str(bad)}))
        caplog.clear()
        for _ in range(3):
            await champion.look()
        assert champion.current is good
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(lines) == 1, "it is not tried again, nor told again"
        assert "version 9" in lines[0]
        assert "version 8 goes on" in lines[0]
        assert bench.told.num_refused == 2
        await champion.aclose()

    run(main())
    assert not (tmp_path / "unpickled").exists()


def test_without_room_it_is_refused(bench: Bench, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        promote(bench.outputs, bundle, "1")
        await bench.champion.start()
        monkeypatch.setattr(loading, "free_bytes", lambda: 150_000_000)
        promote(bench.outputs, bundle, "2")
        await bench.champion.look()
        assert bench.champion.current is not None
        assert bench.champion.current.version == "1"
        assert bench.champion.problem is not None
        assert "no memory for another model" in bench.champion.problem
        await bench.champion.aclose()

    run(main())


def test_free_memory_is_known_here() -> None:
    free = loading.free_bytes()
    assert free is None or free > 0


@pytest.mark.parametrize("content", ["", "{", '{"version": "1"}', "[]", "\x00\xff"])
def test_a_torn_pointer_changes_nothing(bench: Bench, bundle: Path, content: str) -> None:
    async def main() -> None:
        pointer = promote(bench.outputs, bundle, "1")
        await bench.champion.start()
        whole = pointer.read_text()
        pointer.write_text(content)
        await bench.champion.look()
        assert bench.champion.current is not None
        assert bench.champion.problem is not None
        assert "is damaged" in bench.champion.problem
        pointer.write_text(whole)
        await bench.champion.look()
        assert bench.champion.problem is None
        assert bench.told.served == ["1"]
        await bench.champion.aclose()

    run(main())


def test_a_pointer_that_goes_leaves_the_last_one(bench: Bench, bundle: Path) -> None:
    async def main() -> None:
        pointer = promote(bench.outputs, bundle, "1")
        await bench.champion.start()
        pointer.unlink()
        await bench.champion.look()
        assert bench.champion.current is not None
        assert bench.champion.problem is not None
        assert "there is no champion at" in bench.champion.problem
        await bench.champion.aclose()

    run(main())


def test_workers_swap_together(bench: Bench, bundle: Path, other_bundle: Path) -> None:
    """Two event loops are as good as two processes: each has a seat of its own in the group."""

    async def main() -> None:
        promote(bench.outputs, bundle, "1")
        one, other = bench.worker(), bench.worker(pid=1)
        await one.start()
        await other.start()
        promote(bench.outputs, other_bundle, "2")
        looking = asyncio.create_task(one.look())
        await asyncio.sleep(1.5)
        assert one.current is not None
        assert one.current.version == "1", "it waits until the other one is ready"
        await asyncio.gather(looking, other.look())
        assert [each.current and each.current.version for each in (one, other)] == ["2", "2"]

        Path(bench.settings.champion).unlink()
        late = bench.worker(pid=os.getppid())
        await late.start()
        assert late.current is not None
        assert late.current.version == "2", "who comes later begins with what the others serve"
        for each in (one, other, late):
            await each.aclose()

    run(main())


def test_workers_meet_where_nobody_else_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = tmp_path / f"rakuten-serve-{os.getuid()}" / "999999999-1"
    gone.mkdir(mode=0o700, parents=True)
    gone.parent.chmod(0o700)
    Group()
    [seat] = gone.parent.iterdir()
    assert seat.name.startswith(f"{os.getppid()}-"), "what is of a parent that is gone is thrown away"
    gone.parent.chmod(0o777)
    with pytest.raises(PermissionError, match="written to by somebody else"):
        Group()


def test_what_one_worker_refuses_none_serves(bench: Bench, bundle: Path, other_bundle: Path) -> None:
    async def main() -> None:
        promote(bench.outputs, bundle, "1")
        load = loader(bench.settings)

        def load_the_first(found: Found, folder: Path) -> Served:
            if found.version != "1":
                raise MemoryError
            return load(found, folder)

        one, other = bench.worker(), bench.worker(pid=1, load=load_the_first)
        await one.start()
        await other.start()
        promote(bench.outputs, other_bundle, "2")
        await asyncio.gather(one.look(), other.look())
        assert [each.current and each.current.version for each in (one, other)] == ["1", "1"]
        assert one.problem is not None
        assert "another worker refused it" in one.problem
        for each in (one, other):
            await each.aclose()

    run(main())
