"""A look at the traffic as a run of MLflow's: figures, page and what was decided, found by the model's version."""

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from rakuten.config import WatchConfig
from rakuten.experiment.tracking.delivery import deliver_pending, start_run
from rakuten.experiment.tracking.journal import JOURNAL
from rakuten.monitor.job import Look
from rakuten.monitor.watch_collectors import SEVERITIES
from rakuten.pipeline.watch import Told

FOLDER = "monitoring"  # below outputs_dir: what MLflow has not got yet
VERSION_TAG, KIND_TAG, SEVERITY_TAG = "rakuten.model_version", "rakuten.drift_kind", "rakuten.drift_severity"


def record(config: WatchConfig, told: Told, console: Console) -> str | None:
    """MLflow's id of the run; None with tracking=off, and while MLflow is away: then the next look delivers it.

    Raises:
        RakutenError: MLflow refuses it.
    """
    look, folder = told.look, config.outputs_dir / FOLDER
    deliver_pending(config.tracking, folder, console)
    stamp = datetime.fromtimestamp(look.at, UTC).strftime("%Y%m%d-%H%M%S-%f")
    name = f"drift-{look.watched.version}-{stamp}"
    tags = {
        VERSION_TAG: look.watched.version,
        KIND_TAG: look.decision.kind,
        SEVERITY_TAG: look.decision.severity,
    }
    journal = folder / name / "checkpoints" / JOURNAL
    run = start_run(config.tracking, name, tags, journal, console=console)
    run.log_params({"window_products": config.window_products, "bundle": look.watched.bundle})
    run.log_metrics(_metrics(look))
    # As text, which the journal keeps through an outage, while the next look writes the files anew.
    for path in _files(told):
        run.log_text(path.read_text(encoding="utf-8"), path.name)
    run.finish("FINISHED")
    _remove_empty(journal.parent)
    return run.run_id


def _files(told: Told) -> list[Path]:
    found = [told.figures]
    if told.page is not None:
        found += [told.page, told.page.with_suffix(".json")]
    return [*found, told.proposal] if told.proposal is not None else found


def _metrics(look: Look) -> dict[str, float]:
    report = look.reports[0]
    values: dict[str, float | None] = {
        "severity": SEVERITIES.index(look.decision.severity),
        "products": report.n,
        "accuracy/reference": report.reference_accuracy,
    }
    for source in ("estimated", "true"):
        interval = getattr(report, f"{source}_accuracy")
        values |= {f"accuracy/{source}": None if interval is None else interval.value}
    for result in report.results:
        values |= {f"p/{result.name}": result.p_adjusted, f"effect/{result.name}": result.effect}
    return {name: value for name, value in values.items() if value is not None}


def _remove_empty(folder: Path) -> None:
    """Once all has arrived nothing is left of it."""
    for each in (folder, folder.parent):
        if each.is_dir() and not any(each.iterdir()):
            each.rmdir()
