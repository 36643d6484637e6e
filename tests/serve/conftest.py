"""A tiny bundle, trained once by the real script, and services that answer from it."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.conftest import ROOT, made_once
from tests.experiment.conftest import DEMO, FUSION, LOOP
from tests.scripts import run_forked
from tests.serve.process import Service, house

TRAIN = ["tracking=off", "trainer=cpu", *DEMO, *FUSION, *LOOP]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where scripts/train.py has run twice: `first` and `second` hold the bundles' paths."""

    def train(folder: Path) -> None:
        for number, name in enumerate(("first", "second")):
            result = run_forked(
                ROOT / "scripts/train.py",
                [*TRAIN, f"seed={number}"],
                folder,
                os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"},
            )
            assert result.returncode == 0, result.stderr
            (folder / name).write_text(str(folder / result.stdout.strip()))

    return made_once(tmp_path_factory, "served-shop", train)


@pytest.fixture(scope="session")
def bundle(shop: Path) -> Path:
    """A bundle with a text and an image tower, trained on the demo catalogue. Not to be changed: copy it."""
    return Path((shop / "first").read_text())


@pytest.fixture(scope="session")
def other_bundle(shop: Path) -> Path:
    """The same, trained from another seed: it gives other answers."""
    return Path((shop / "second").read_text())


@pytest.fixture(scope="session")
def served(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the settings that it comes with, version 1; shared, so it is only to be asked."""
    service = Service(house(tmp_path_factory.mktemp("served") / "house", bundle))
    try:
        yield service.wait_until_ready()
    finally:
        service.kill()


Serve = Callable[..., Service]
StartIn = Callable[..., Service]


@pytest.fixture(name="house")
def empty_house(tmp_path: Path) -> Path:
    """A folder to serve from in which nothing is published yet."""
    return house(tmp_path / "house")


@pytest.fixture
def start_in() -> Iterator[StartIn]:
    """A function: a folder, settings of conf/serve.yaml -> a service that starts there; all are killed in the end."""
    started: list[Service] = []

    def start(folder: Path, **settings: object) -> Service:
        started.append(Service(folder, **settings))
        return started[-1]

    yield start
    for service in started:
        service.kill()


@pytest.fixture
def serve(bundle: Path, tmp_path: Path, start_in: StartIn) -> Serve:
    """A function: settings of conf/serve.yaml -> a service with the bundle as version 1, ready."""
    folders = count()

    def start(**settings: object) -> Service:
        folder = house(tmp_path / f"served-{next(folders)}", bundle)
        return start_in(folder, **settings).wait_until_ready()

    return start
