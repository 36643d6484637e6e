"""A run that is a study's trial: each epoch's score on its way to whoever sweeps, and an end before the last."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from rakuten.experiment.module import VAL_F1

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


class EpochReporter(Callback):
    """Reports at each validation and raises Pruned where that is the answer. Knows the time spent across restarts."""

    def __init__(self, report: ReportEpoch):
        self._report = report
        self._before_s, self._started = 0.0, time.perf_counter()
        self._epochs = 0

    @property
    def spent(self) -> dict[str, float]:
        return {"train_s": self._before_s + time.perf_counter() - self._started, "epochs": self._epochs}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epochs = trainer.current_epoch + 1
        score = float(trainer.callback_metrics[VAL_F1])
        if self._report(self._epochs, score, self.spent):
            raise Pruned(f"pruned after epoch {self._epochs} at {score:.4f}", self.spent)

    def state_dict(self) -> dict[str, Any]:
        return self.spent

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before_s, self._epochs = state_dict["train_s"], int(state_dict["epochs"])
