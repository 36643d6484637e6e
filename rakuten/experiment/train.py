"""A config -> a tracked run: data, training, calibration, bundle, evaluation."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import xxhash
from rich.console import Console

from rakuten.config import TrainConfig
from rakuten.config_io import to_flat_dict, to_plain, to_yaml
from rakuten.data.features import Features, load_features, side_counts
from rakuten.data.split import TEST
from rakuten.errors import RakutenError
from rakuten.experiment.callbacks import LAST
from rakuten.experiment.device import device_of, prepare_torch
from rakuten.experiment.evaluate import calibrate
from rakuten.experiment.fit import fit
from rakuten.experiment.runs import (
    RunFolder,
    State,
    all_runs,
    claim,
    create_run,
    find_finished,
    find_interrupted,
)
from rakuten.experiment.scoring import best_possible, score_run
from rakuten.experiment.sides import Rows, split_rows
from rakuten.experiment.summary import SideScores, print_summary
from rakuten.experiment.tracking import (
    RUN_TAG,
    Status,
    TrackedRun,
    UntrackedRun,
    check_store,
    finish_run,
    git_tags,
    public,
    start_run,
)
from rakuten.model.bundle import Predictor, save_bundle
from rakuten.model.classifier import ProductClassifier
from rakuten.model.pretrained import require_weights

REPOSITORY = Path(__file__).parents[2]


def train(config: TrainConfig, console: Console) -> Path:
    """Train, evaluate and bundle what `config` says; the path of the bundle.

    Ctrl-C ends training early: the best model so far is bundled and evaluated, the run marked KILLED.

    Raises:
        RakutenError: no such device, weights, data, or the loss diverged.
    """
    _quiet_libraries()
    prepare_torch(config.trainer)
    require_weights(config.model)
    check_store(config.tracking)
    _end_abandoned_runs(config, console)
    features = load_features(config.data, config.model, console)
    rows = split_rows(features, config.data.split, config.seed)
    with _terminable(), _owned(_open_run(config, features, console), console) as own:
        run = own.run
        tags = _tags(config, features, run)
        own.tracked = tracked = start_run(config.tracking, run.run_id, tags, resume_id=run.tracking_id)
        own.run = run = run.with_tracking(tracked.run_id)
        _log_settings(config, features, tracked)
        classifier, interrupted = fit(config, features, rows, run, tracked, console)
        _bundle(config, features, rows, run, classifier, tags)
        scores = score_run(config, features, rows, run, tags)
        _log_results(tracked, run, scores)
        limits = best_possible(config.data, features, rows.test)
        print_summary(console, config, run, scores[TEST], len(rows.test), limits)
        if interrupted:
            raise KeyboardInterrupt
    (run.checkpoints / f"{LAST}.ckpt").unlink(missing_ok=True)  # a finished run has nothing to resume
    return run.bundle


def _tags(config: TrainConfig, features: Features, run: RunFolder) -> dict[str, str]:
    ours = {"data_fingerprint": features.fingerprint, RUN_TAG: run.run_id}
    return git_tags(REPOSITORY) | ours | config.tags


def _log_settings(config: TrainConfig, features: Features, tracked: TrackedRun) -> None:
    shown = public(config)
    tracked.log_params({k: v for k, v in to_flat_dict(shown).items() if not k.startswith("data.codes.")})
    tracked.log_text(to_yaml(shown), "config.yaml")
    tracked.log_metrics({f"data/{side}": count for side, count in side_counts(features).items()})


def _log_results(tracked: TrackedRun, run: RunFolder, scores: dict[str, SideScores]) -> None:
    flat = {key: value for key, value in to_flat_dict(scores).items() if isinstance(value, int | float)}
    tracked.log_metrics({key.replace(".", "/"): float(value) for key, value in flat.items()})
    tracked.log_artifacts(run.bundle, "bundle")
    tracked.log_artifacts(run.evaluation, "evaluation")


def _quiet_libraries() -> None:
    """What their logs say, the progress bar and the summary say better; warnings still come through."""
    for name in ("pytorch_lightning", "lightning.fabric", "alembic"):
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
        if not run.is_abandoned:
            continue
        if not finish_run(config.tracking, run.run_id, run.tracking_id, "KILLED"):
            continue  # recorded in another store: a start that records there finds it
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
        finished = find_finished(config.outputs_dir, key)
        reason = (
            f"run {finished.run_id} of this config and data has finished already"
            if finished
            else "no interrupted run of this config and data"
        )
        console.print(f"resume=true: {reason}, starting a new one")
    return create_run(config.outputs_dir, key)


@dataclass
class _Own:
    """The run that this process answers for, and its record once there is one."""

    run: RunFolder
    tracked: TrackedRun = field(default_factory=UntrackedRun)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the process the way Ctrl-C does, through whatever has to be put right."""

    def terminate(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _owned(run: RunFolder, console: Console) -> Iterator[_Own]:
    """The run ends FINISHED, FAILED or KILLED, whatever happens inside."""
    own = _Own(run)
    try:
        yield own
    except (KeyboardInterrupt, SystemExit):
        _end_badly(own, "killed", "KILLED", console)
        raise
    except BaseException:
        _end_badly(own, "failed", "FAILED", console)
        raise
    else:
        own.run.with_state("finished")
        own.tracked.finish("FINISHED")


def _end_badly(own: _Own, state: State, status: Status, console: Console) -> None:
    """A store that fails as well must not hide why the run ended."""
    own.run.with_state(state)
    try:
        own.tracked.finish(status)
    except RakutenError as error:
        console.print(f"[yellow]the run's status was not recorded: {error.problem}[/yellow]")


def _bundle(
    config: TrainConfig,
    features: Features,
    rows: Rows,
    run: RunFolder,
    classifier: ProductClassifier,
    tags: dict[str, str],
) -> None:
    plain = {"calibration": {"temperature": 1.0}}
    predictor = Predictor(
        classifier, features.preprocessor, config.data.labels, plain, device_of(config.trainer)
    )
    lineage = tags | {
        "run_id": run.run_id,
        "tracking_id": run.tracking_id,
        "seed": config.seed,
        "split": to_plain(config.data.split),
    }
    # Calibrated from the first: a bundle that is there may be served.
    save_bundle(
        run.bundle,
        classifier,
        features.preprocessor,
        config.data.labels,
        config.model,
        lineage=lineage,
        calibration=calibrate(predictor, features, rows.calib),
    )
