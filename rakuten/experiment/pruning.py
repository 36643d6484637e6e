"""A run that is a study's trial: each epoch's score on its way to whoever sweeps, and an end before the last."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# epoch (from 1), validation score, {train_s, epochs} so far -> whether to prune
ReportEpoch = Callable[[int, float, Mapping[str, float]], bool]


@dataclass(frozen=True)
class Trial:
    """Whose trial a run is."""

    run_id: str  # the name of the run's folder
    study: str
    number: int
    tags: Mapping[str, str]


class Pruned(Exception):  # noqa: N818 - no error
    """The trial is not worth more training; `spent` says what it took."""

    def __init__(self, reason: str, spent: Mapping[str, float]):
        super().__init__(reason)
        self.spent = dict(spent)
