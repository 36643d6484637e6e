"""A small champion and its traffic, for tests of the drift job."""

from pathlib import Path

import pytest

from tests.monitor.traffic import Desk, Trained, train


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def desk(trained: Trained, tmp_path: Path) -> Desk:
    """Version 1 is champion; nothing was asked yet."""
    found = Desk(tmp_path, trained)
    (tmp_path / "outputs").mkdir()
    found.promote("1")
    return found
