"""Temperature scaling: confidence comes to mean what it says, and no answer changes."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from rakuten.experiment.calibrate import BOUNDS, fit_temperature


def planted(temperature: float, num_rows: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are `temperature` times too sure of themselves, with labels drawn from the true probabilities."""
    generator = torch.Generator().manual_seed(0)
    true = 2 * torch.randn(num_rows, 5, generator=generator)
    labels = torch.multinomial(torch.softmax(true, 1), 1, generator=generator).squeeze(1)
    return true * temperature, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_planted_temperature_is_found(temperature: float) -> None:
    assert fit_temperature(*planted(temperature)) == pytest.approx(temperature, rel=0.03)


@pytest.mark.parametrize("num_rows", [1, 2, 7, 50])
@pytest.mark.parametrize("seed", range(5))
def test_the_log_loss_never_gets_worse_where_it_was_fitted(num_rows: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(num_rows, 3, generator=generator)
    labels = torch.randint(3, (num_rows,), generator=generator)
    temperature = fit_temperature(logits, labels)
    assert BOUNDS[0] * 0.99 <= temperature <= BOUNDS[1] * 1.01
    assert cross_entropy(logits.double() / temperature, labels) <= cross_entropy(logits.double(), labels)


def test_nothing_to_learn_from_changes_nothing() -> None:
    assert fit_temperature(torch.empty(0, 3), torch.empty(0, dtype=torch.int64)) == 1.0
    assert math.isfinite(fit_temperature(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])))
