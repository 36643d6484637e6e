"""A config -> a tracked run: data, training, calibration, bundle, evaluation."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import xxhash
from numpy.typing import NDArray
from rich.console import Console

from rakuten.config import TrainConfig
from rakuten.config_io import to_flat_dict, to_yaml
from rakuten.data.datamodule import ProductDataModule
from rakuten.data.features import Features, load_features, side_counts
from rakuten.data.split import TEST
from rakuten.errors import DeviceError
from rakuten.experiment.callbacks import BEST, LAST, TrackingLogger, build_callbacks
from rakuten.experiment.evaluate import calibrate
from rakuten.experiment.module import ClassifierModule
from rakuten.experiment.runs import RunFolder, all_runs, claim, create_run, find_interrupted
from rakuten.experiment.scoring import best_possible, score_run
from rakuten.experiment.sides import Rows, split_rows
from rakuten.experiment.summary import print_summary
from rakuten.experiment.tracking import TrackedRun, finish_run, git_tags, start_run
from rakuten.model.bundle import Predictor, build_classifier, save_bundle, update_info
from rakuten.model.classifier import ProductClassifier
from rakuten.model.pretrained import require_weights
from rakuten.model.text import NgramTower

REPOSITORY = Path(__file__).parents[2]


def train(config: TrainConfig, console: Console) -> Path:
    """Train, evaluate and bundle what `config` says; the path of the bundle.

    Ctrl-C ends training early: the best model so far is bundled and evaluated, the run marked KILLED.

    Raises:
        RakutenError: no such device, weights, data, or the loss diverged.
    """
    _quiet_libraries()
    _prepare_torch(config)
    require_weights(config.model)
    _end_abandoned_runs(config, console)
    features = load_features(config.data, config.model, console)
    rows = split_rows(features, config.data.split, config.seed)
    run = _open_run(config, features, console)
    tags = (
        git_tags(REPOSITORY)
        | {"data_fingerprint": features.fingerprint, "rakuten.run": run.run_id}
        | config.tags
    )
    tracked = start_run(config.tracking, run.run_id, tags, resume_id=run.tracking_id)
    run = _remember_tracking(run, tracked)
    with _owned_status(run, tracked):
        tracked.log_params({k: v for k, v in to_flat_dict(config).items() if not k.startswith("data.codes.")})
        tracked.log_text(to_yaml(config), "config.yaml")
        tracked.log_metrics({f"data/{side}": count for side, count in side_counts(features).items()})
        classifier, interrupted = _fit(config, features, rows, run, tracked, console)
        _bundle(config, features, rows, run, classifier, tags)
        scores = score_run(config, features, rows, run, tags)
        tracked.log_metrics(
            {
                f"{s}/{m}/{k}": v
                for s, by in scores.items()
                for m, ks in by.items()
                for k, v in ks.items()
                if v is not None
            }
        )
        tracked.log_artifacts(run.bundle, "bundle")
        tracked.log_artifacts(run.evaluation, "evaluation")
        limits = best_possible(config.data, features, rows.test)
        print_summary(console, config, run, scores[TEST], len(rows.test), limits)
        if interrupted:
            raise KeyboardInterrupt
    (run.checkpoints / f"{LAST}.ckpt").unlink(missing_ok=True)  # a finished run has nothing to resume
    return run.bundle


def _prepare_torch(config: TrainConfig) -> None:
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise DeviceError(
            "trainer.accelerator=gpu, and torch sees no GPU",
            got=f"torch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'}, no device",
            fix="trainer=cpu model=fusion_small trains anywhere; on a GPU machine check `nvidia-smi`",
        )
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    torch.set_float32_matmul_precision("high")


def _quiet_libraries() -> None:
    """What their logs say, the progress bar and the summary say better; warnings still come through."""
    for name in ("pytorch_lightning", "lightning.fabric", "mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Known and harmless: few workers are right for a memory map, few steps an epoch for a small catalogue, and the
    # run's own state lies beside its checkpoints.
    for message in (
        "does not have many workers",
        "smaller than the logging interval",
        "exists and is not empty",
    ):
        warnings.filterwarnings("ignore", message=f".*{message}.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated.*")  # Lightning 2.6 on torch 2.13


def _end_abandoned_runs(config: TrainConfig, console: Console) -> None:
    """Runs whose process vanished (kill -9, power cut) get the status that they could not set themselves."""
    for run in list(all_runs(config.outputs_dir)):
        if run.is_abandoned:
            if run.tracking_id is not None:
                finish_run(config.tracking, run.tracking_id, "KILLED")
            run.with_state("killed")
            console.print(f"[dim]run {run.run_id} had been killed; resume=true goes on with it[/dim]")


def _open_run(config: TrainConfig, features: Features, console: Console) -> RunFolder:
    """A new run, or the newest interrupted one of the same config and data."""
    passive = ("resume", "debug", "outputs_dir", "tags", "tracking", "bootstrap")
    settings = {k: v for k, v in to_flat_dict(config).items() if k.split(".")[0] not in passive}
    key = xxhash.xxh3_128_hexdigest(f"{sorted(settings.items())}{features.fingerprint}".encode())
    if config.resume:
        interrupted = find_interrupted(config.outputs_dir, key)
        if interrupted is not None:
            console.print(f"resuming run {interrupted.run_id}")
            return claim(interrupted)
        console.print(
            "[dim]resume=true: no interrupted run of this config and data, starting a new one[/dim]"
        )
    return create_run(config.outputs_dir, key)


def _remember_tracking(run: RunFolder, tracked: TrackedRun) -> RunFolder:
    return replace(run, tracking_id=tracked.run_id).save()


@contextmanager
def _owned_status(run: RunFolder, tracked: TrackedRun) -> Iterator[None]:
    """The run ends FINISHED, FAILED or KILLED, whatever happens inside; SIGTERM is a kill."""

    def terminate(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        tracked.finish("KILLED")
        run.with_state("killed")
        raise
    except BaseException:
        tracked.finish("FAILED")
        run.with_state("failed")
        raise
    else:
        tracked.finish("FINISHED")
        run.with_state("finished")
    finally:
        signal.signal(signal.SIGTERM, previous)


def _fit(
    config: TrainConfig, features: Features, rows: Rows, run: RunFolder, tracked: TrackedRun, console: Console
) -> tuple[ProductClassifier, bool]:
    """The classifier with its best weights, and whether Ctrl-C ended training early."""
    pl.seed_everything(config.seed, verbose=False)
    classifier = build_classifier(config.model, len(config.data.labels), features.preprocessor)
    _fit_statistics(classifier, features, rows.train)
    counts = torch.from_numpy(np.bincount(features.labels[rows.train], minlength=len(config.data.labels)))
    module = ClassifierModule(classifier, config.model, config.optim, config.trainer, counts, config.seed)
    data = ProductDataModule(features, config.trainer, train=rows.train, val=rows.val, seed=config.seed)
    trainer = pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=config.trainer.precision,
        max_epochs=config.trainer.max_epochs,
        min_epochs=config.trainer.min_epochs or None,
        gradient_clip_val=config.optim.grad_clip or None,
        deterministic=config.trainer.deterministic,
        logger=TrackingLogger(tracked),
        callbacks=build_callbacks(config, run.checkpoints, console),
        enable_progress_bar=console.is_terminal,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        use_distributed_sampler=False,
    )
    last = run.checkpoints / f"{LAST}.ckpt"
    interrupt = signal.getsignal(signal.SIGINT)
    interrupted = False
    try:
        trainer.fit(module, datamodule=data, ckpt_path=last if last.is_file() else None, weights_only=True)
    except SystemExit:
        if not trainer.interrupted or not (run.checkpoints / f"{BEST}.ckpt").is_file():
            raise
        interrupted = True
        console.print("[yellow]interrupted: keeping the best model so far[/yellow]")
    finally:
        signal.signal(signal.SIGINT, interrupt)  # Lightning leaves it ignored after Ctrl-C
    state = torch.load(run.checkpoints / f"{BEST}.ckpt", weights_only=True, map_location="cpu")["state_dict"]
    prefix = "classifier."
    classifier.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    return classifier, interrupted


def _fit_statistics(classifier: ProductClassifier, features: Features, rows: NDArray[np.int64]) -> None:
    """What a tower learns by counting, from training products alone."""
    tower = classifier.towers.get("text")
    if isinstance(tower, NgramTower) and features.store.tokens is not None:
        ids = [ids for row in rows if (ids := features.store.tokens[row]) is not None]
        counts = np.bincount(np.concatenate([np.empty(0, np.int32), *ids]), minlength=len(tower.idf))
        tower.fit_idf(torch.from_numpy(counts), len(rows))


def _bundle(
    config: TrainConfig,
    features: Features,
    rows: Rows,
    run: RunFolder,
    classifier: ProductClassifier,
    tags: dict[str, str],
) -> None:
    lineage = tags | {
        "run_id": run.run_id,
        "tracking_id": run.tracking_id,
        "seed": config.seed,
        "val": config.data.split.val,
    }
    save_bundle(
        run.bundle, classifier, features.preprocessor, config.data.labels, config.model, lineage=lineage
    )
    temperature = calibrate(Predictor.load(run.bundle), features, rows.calib)
    update_info(run.bundle, calibration={"temperature": temperature, "num_products": len(rows.calib)})
