"""What happens around Lightning's loop: metrics to the tracker, a line an epoch, checkpoints, averaged weights."""

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme
from pytorch_lightning.loggers.logger import Logger
from rich.console import Console

from rakuten.config import TrainConfig
from rakuten.data.files import atomic_write
from rakuten.experiment.module import VAL_F1
from rakuten.experiment.pruning import Pruned, ReportEpoch
from rakuten.experiment.tracking.courier import TrackedRun

BEST, LAST = "best", "last"


class TrackingLogger(Logger):
    """Lightning's metrics -> the tracked run."""

    def __init__(self, run: TrackedRun):
        super().__init__()
        self._run = run

    @property
    def name(self) -> str:
        return "rakuten"

    @property
    def version(self) -> str:
        return self._run.run_id or "0"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._run.log_metrics(metrics, step or 0)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Params are logged once, from the config, by whoever starts the run."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there. Lightning's own are copied over from /tmp, not in one step."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        assert storage_options is None, "local files have none"
        with atomic_write(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that remembers its verdict: a run killed after it, before its bundle, trains no further."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class BestCheckpoint(ModelCheckpoint):
    """The weights with the best validation score from epoch `min_epochs` on.

    Before, with the learning rate still high and few products to validate on, the best is the luckiest.
    """

    def __init__(self, folder: Path, min_epochs: int):
        super().__init__(
            folder, BEST, VAL_F1, mode="max", save_weights_only=True, enable_version_counter=False
        )
        self._min_epochs = min_epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch + 1 >= self._min_epochs:
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch + 1 >= self._min_epochs:
            super().on_validation_end(trainer, pl_module)


class EpochLines(Callback):
    """One line an epoch, where no terminal can show a bar."""

    def __init__(self, console: Console):
        self._console = console

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss, f1 = trainer.callback_metrics["val/loss"], trainer.callback_metrics[VAL_F1]
        self._console.print(
            f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}  val loss {loss:.3f}  val F1 {f1:.4f}"
        )


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


def build_callbacks(config: TrainConfig, checkpoints: Path, console: Console) -> list[Callback]:
    """Best weights and everything to resume from, early stopping on validation weighted F1, progress."""
    callbacks: list[Callback] = [
        ResumableEarlyStopping(VAL_F1, mode="max", patience=config.trainer.patience),
        # Before `last`, so that what it knows of the best is in there.
        BestCheckpoint(checkpoints, config.trainer.min_epochs),
        ModelCheckpoint(checkpoints, LAST, save_top_k=1, enable_version_counter=False),
        RichProgressBar(theme=RichProgressBarTheme(metrics_format=".4f"), leave=False)
        if console.is_terminal
        else EpochLines(console),
    ]
    if config.optim.ema:
        # Buffers follow the weights of the moment: the statistics of batch norm are averages already.
        callbacks.append(EMAWeightAveraging(use_buffers=False, decay=config.optim.ema))
    return callbacks
