"""Lightning's loop around one classifier: from seeded start, or from a checkpoint, to its best weights."""

import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from rich.console import Console

from rakuten.config import TrainConfig
from rakuten.data.datamodule import ProductDataModule
from rakuten.data.features import Features
from rakuten.experiment.callbacks import BEST, LAST, AtomicCheckpoints, TrackingLogger, build_callbacks
from rakuten.experiment.module import ClassifierModule
from rakuten.experiment.runs import RunFolder
from rakuten.experiment.sides import Rows
from rakuten.experiment.tracking.courier import TrackedRun
from rakuten.model.bundle import build_classifier
from rakuten.model.classifier import ProductClassifier
from rakuten.model.losses import prior_bias
from rakuten.model.text import NgramTower

MAX_STEPS_BETWEEN_LOGS = 20
_LIGHTNING_INTERRUPTED = 1  # the exit code that it makes of Ctrl-C


def fit(
    config: TrainConfig,
    features: Features,
    rows: Rows,
    run: RunFolder,
    tracked: TrackedRun,
    console: Console,
    callbacks: Sequence[pl.Callback] = (),
) -> tuple[ProductClassifier, bool]:
    """The classifier with its best weights, and whether Ctrl-C ended training early.

    Goes on from the run's last checkpoint where there is one, to the bit as if it had never stopped.

    Raises:
        KeyboardInterrupt: Ctrl-C before there was anything to keep.
        RakutenError: the loss diverged.
    """
    pl.seed_everything(config.seed, verbose=False)
    classifier = build_classifier(config.model, len(config.data.labels), features.preprocessor)
    _fit_statistics(classifier, features, rows.train)
    counts = torch.from_numpy(np.bincount(features.labels[rows.train], minlength=len(config.data.labels)))
    classifier.start_at_priors(prior_bias(counts, config.optim.loss), prior_bias(counts, "cross_entropy"))
    module = ClassifierModule(classifier, config.model, config.optim, config.trainer, counts, config.seed)
    last = run.checkpoints / f"{LAST}.ckpt"
    data = ProductDataModule(
        features,
        config.trainer,
        train=rows.train,
        augment=config.model.augment,
        val=rows.val,
        seed=config.seed,
    )
    trainer = _build_trainer(
        config, run, tracked, console, callbacks, num_batches=len(data.train_dataloader())
    )
    interrupted = _run(trainer, module, data, last if last.is_file() else None)
    best = run.checkpoints / f"{BEST}.ckpt"
    if not best.is_file():  # interrupted before trainer.min_epochs
        best = last
    if interrupted and not best.is_file():
        raise KeyboardInterrupt
    if interrupted:
        console.print("[yellow]interrupted: keeping the best model so far[/yellow]")
    state = torch.load(best, weights_only=True, map_location="cpu")["state_dict"]
    prefix = "classifier."
    classifier.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    return classifier, interrupted


def _build_trainer(
    config: TrainConfig,
    run: RunFolder,
    tracked: TrackedRun,
    console: Console,
    callbacks: Sequence[pl.Callback],
    *,
    num_batches: int,
) -> pl.Trainer:
    return pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=config.trainer.precision,
        max_epochs=config.trainer.max_epochs,
        min_epochs=config.trainer.min_epochs or None,
        gradient_clip_val=config.optim.grad_clip or None,
        deterministic=config.trainer.deterministic,
        logger=TrackingLogger(tracked),
        callbacks=[*callbacks, *build_callbacks(config, run.checkpoints, console)],
        plugins=[AtomicCheckpoints()],
        enable_progress_bar=console.is_terminal,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=max(1, min(MAX_STEPS_BETWEEN_LOGS, num_batches // 2)),
        use_distributed_sampler=False,
    )


def _run(trainer: pl.Trainer, module: ClassifierModule, data: ProductDataModule, start: Path | None) -> bool:
    """Whether Ctrl-C ended training."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    except SystemExit as end:
        if end.code != _LIGHTNING_INTERRUPTED:
            raise
        return True
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored after Ctrl-C
    return False


def _fit_statistics(classifier: ProductClassifier, features: Features, rows: NDArray[np.int64]) -> None:
    """What a tower learns by counting, from training products alone."""
    tower = classifier.towers.get("text")
    if isinstance(tower, NgramTower) and features.store.tokens is not None:
        ids = [tokens.ids for row in rows if (tokens := features.store.tokens[row]) is not None]
        counts = np.bincount(np.concatenate([np.empty(0, np.int32), *ids]), minlength=len(tower.idf))
        tower.fit_idf(torch.from_numpy(counts), len(rows))
