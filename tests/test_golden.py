"""Reference numbers hold: a change of the model that nobody meant shows here first."""

import json
import warnings

import numpy as np
import pytest

from tests.golden.regenerate import FOLDER, NUM_STEPS, NUMBERS

# float32 through a dozen layers, on other CPUs and thread counts; a changed formula moves numbers by far more.
TOLERANCE = {"towers": 2e-3, "fusions": 1e-4, "losses": 2e-3}


@pytest.fixture(scope="module", params=sorted(NUMBERS))
def numbers(request: pytest.FixtureRequest) -> tuple[str, dict[str, list[float]], dict[str, list[float]]]:
    name = request.param
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, about a loader as small as this
        computed = NUMBERS[name]()
    return name, computed, json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_numbers_are_the_reference(
    numbers: tuple[str, dict[str, list[float]], dict[str, list[float]]],
) -> None:
    name, computed, reference = numbers
    assert set(computed) == set(reference)
    for key, expected in reference.items():
        np.testing.assert_allclose(
            computed[key],
            expected,
            atol=TOLERANCE[name],
            rtol=TOLERANCE[name],
            err_msg=f"{name}.json, {key}: if the change is meant, run python -m tests.golden.regenerate",
        )


def test_references_say_something() -> None:
    """Numbers that are all alike, or losses that do not move, would pass whatever the model did."""
    for name in ("towers", "fusions"):
        for values in json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")).values():
            first, second = np.array(values)
            assert np.abs(first).max() > 0.05
            assert np.abs(first - second).max() > 20 * TOLERANCE[name] * np.abs(first).max()
    for values in json.loads((FOLDER / "losses.json").read_text(encoding="utf-8")).values():
        assert len(values) == NUM_STEPS
        assert values[-1] < values[0] - 0.02
