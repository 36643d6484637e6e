"""A config -> a tracked run: data, training, calibration, bundle, evaluation."""

import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import xxhash
from rich.console import Console

from rakuten.config import TrainConfig
from rakuten.config_io import to_flat_dict, to_plain, to_yaml
from rakuten.data.features import Features, load_features, side_counts
from rakuten.data.files import atomic_write
from rakuten.data.split import TEST
from rakuten.errors import RakutenError
from rakuten.experiment.callbacks import LAST, EpochReporter
from rakuten.experiment.canary import canary_examples
from rakuten.experiment.card import write_card
from rakuten.experiment.device import device_of, prepare_torch
from rakuten.experiment.evaluate import calibrate
from rakuten.experiment.fit import fit
from rakuten.experiment.lineage import DIFF, UUID_TAG, digest, git_diff, git_tags
from rakuten.experiment.ownership import Own, owned, prepare_record, terminable
from rakuten.experiment.pruning import Pruned, ReportEpoch, Trial
from rakuten.experiment.reference import record_reference
from rakuten.experiment.runs import (
    CONFIG,
    GROUP_TAG,
    PASSIVE,
    RunFolder,
    claim,
    create_run,
    find_finished,
    find_interrupted,
    open_trial,
)
from rakuten.experiment.scoring import METRICS, best_possible, measure, score_run
from rakuten.experiment.sides import Rows, split_rows
from rakuten.experiment.summary import SideScores, print_summary
from rakuten.experiment.tracking.courier import TrackedRun
from rakuten.experiment.tracking.delivery import public, start_run
from rakuten.experiment.tracking.journal import JOURNAL
from rakuten.experiment.tracking.store import RUN_TAG
from rakuten.model.bundle import Predictor, save_bundle
from rakuten.model.bundle_files import copy_bundle
from rakuten.model.canary import record_canary
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
    prepare_record(config, console)
    features = load_features(config.data, config.model, console)
    rows = split_rows(features, config.data.split, config.seed)
    with terminable(), owned(_open_trial(config, features, console)) as own:
        run = own.run
        tags = _tags(config, features, run)
        _start(own, config, features, tags, run.run_id, console)
        run, tracked = own.run, own.tracked
        classifier, interrupted = fit(config, features, rows, run, tracked, console)
        own.run = run = run.with_tracking(tracked.run_id or run.tracking_id)  # MLflow may have come only now
        _bundle(config, features, rows, run, classifier, tags)
        scores = score_run(config, features, rows, run, tags)
        record_reference(run.bundle, features, rows.test, device_of(config.trainer))
        write_card(run.bundle)
        own.run = run.with_result(
            {
                f"{side}/{name}": value
                for side, by in scores.items()
                for name, value in by["both"].items()
                if value is not None
            }
        )
        _log_results(tracked, run, scores)
        limits = best_possible(config.data, features, rows.test)
        print_summary(console, config, run, scores[TEST], len(rows.test), limits)
        if interrupted:
            raise KeyboardInterrupt
    (run.checkpoints / f"{LAST}.ckpt").unlink(missing_ok=True)  # a finished run has nothing to resume
    if config.publish is not None:
        copy_bundle(run.bundle, config.publish)
    if config.metrics is not None:
        with atomic_write(config.metrics) as path:
            shutil.copyfile(run.evaluation / METRICS, path)
    return run.bundle


def train_trial(config: TrainConfig, trial: Trial, report: ReportEpoch, console: Console) -> dict[str, float]:
    """Train, calibrate and bundle a study's trial; what its best checkpoint scores on the validation side.

    Goes on where a killed process left the trial's run folder. The test side stays untouched: a study that picked its
    winner by it could not be judged by it.

    Raises:
        Pruned: `report` said so.
        RakutenError: no such device, weights, data, or the loss diverged.
    """
    _quiet_libraries()
    prepare_torch(config.trainer)
    require_weights(config.model)
    features = load_features(config.data, config.model, console)
    rows = split_rows(features, config.data.split, config.seed)
    run = open_trial(config.outputs_dir, trial.run_id, _config_key(config, features), trial.study)
    if run.state == "pruned":
        raise Pruned(run.reason or "", run.result or {})
    if run.state == "failed":
        raise RakutenError(run.reason or "failed")
    if run.state == "finished" and run.result is not None:
        return run.result
    try:
        with terminable(), owned(run) as own:
            tags = _tags(config, features, run) | dict(trial.tags)
            _start(own, config, features, tags, f"trial-{trial.number:03d}", console)
            if own.run.result is None:
                reporter = EpochReporter(report)
                classifier, _ = fit(config, features, rows, own.run, own.tracked, console, [reporter])
                _bundle(config, features, rows, own.run, classifier, tags)
                scores = measure(config, features, rows.val, own.run)
                own.run = own.run.with_result(scores | reporter.spent)
            assert own.run.result is not None
            own.tracked.log_metrics(own.run.result)
    except Pruned:
        for path in run.checkpoints.glob("*.ckpt"):  # nobody will go on from there
            path.unlink()
        raise
    (run.checkpoints / f"{LAST}.ckpt").unlink(missing_ok=True)
    return own.run.result


def _tags(config: TrainConfig, features: Features, run: RunFolder) -> dict[str, str]:
    ours = {"data_fingerprint": features.fingerprint, RUN_TAG: run.run_id, UUID_TAG: run.uuid}
    diff = git_diff(REPOSITORY)
    return git_tags(REPOSITORY) | ({"git_diff_sha256": digest(diff)} if diff else {}) | ours | config.tags


def _start(
    own: Own, config: TrainConfig, features: Features, tags: dict[str, str], name: str, console: Console
) -> None:
    """Begin the run's record, or go on with it."""
    run = own.run
    own.tracked = start_run(
        config.tracking,
        run.run_id,
        tags,
        journal=run.checkpoints / JOURNAL,
        resume_id=run.tracking_id,
        run_name=name,
        console=console,
    )
    own.run = run.with_tracking(own.tracked.run_id or run.tracking_id)
    with atomic_write(run.checkpoints / CONFIG) as path:
        path.write_text(to_yaml(public(config)), encoding="utf-8")
    if diff := git_diff(REPOSITORY):
        (run.checkpoints / DIFF).write_text(diff, encoding="utf-8")
        own.tracked.log_text(diff, DIFF)
    _log_settings(config, features, own.tracked)


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


def _open_trial(config: TrainConfig, features: Features, console: Console) -> RunFolder:
    """A new run, or the newest interrupted one of the same config and data."""
    key = _config_key(config, features)
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
    return create_run(config.outputs_dir, key, config.tags.get(GROUP_TAG))


def _config_key(config: TrainConfig, features: Features) -> str:
    """Equal for runs that would train the same."""
    settings = {k: v for k, v in to_flat_dict(config).items() if k.split(".")[0] not in PASSIVE}
    return xxhash.xxh3_128_hexdigest(f"{sorted(settings.items())}{features.fingerprint}".encode())


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
        "catalogue": config.data.name,
        "data": features.sources,
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
    held_out = np.concatenate([rows.calib, rows.val])  # not test, which a study must not see
    record_canary(run.bundle, canary_examples(features, held_out, config.seed))
