"""Temperature scaling (Guo et al., 2017): one number that makes confidence mean what it says."""

import math

from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

BOUNDS = (0.05, 20.0)  # a temperature outside says that something else is wrong


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that minimises the log-loss of (N, C) `logits` against (N,) `labels`; 1 where N is 0."""
    if len(labels) == 0:
        return 1.0
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return float(cross_entropy(logits / math.exp(log_temperature), labels))

    found = minimize_scalar(loss, bounds=(math.log(BOUNDS[0]), math.log(BOUNDS[1])), method="bounded")
    return math.exp(float(found.x)) if found.fun < loss(0.0) else 1.0
