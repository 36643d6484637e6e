"""Training again is proposed, with what speaks for it and the command, and started by nobody but people."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rakuten.config import WatchConfig
from rakuten.monitor.drift.report import DriftReport
from rakuten.monitor.job import Look, iso, log_at, write_json
from rakuten.monitor.labelled import Labels, labels_in

PROPOSAL: Final = "retraining.json"  # below outputs_dir
ROLLBACK: Final = "python scripts/promote.py rollback=true"


def propose(config: WatchConfig, found: Look) -> Path | None:
    """Write the proposal that a drift alarm makes, or take back the one that no longer holds; its path where it holds.

    Raises:
        RakutenError: the log is away.
    """
    path = config.outputs_dir / PROPOSAL
    if found.is_past:
        return None
    if not found.decision.retrain:
        if found.decision.kind != "not_enough_data":
            path.unlink(missing_ok=True)
        return path if path.is_file() else None
    with log_at(config.log) as database:
        labels = labels_in(database)
    write_json(path, _proposal(config, found, labels) | {"trained": trained(path, found.watched.version)})
    return path


def trained(path: Path, version: str) -> dict[str, Any] | None:
    """What came of the last training that this version's drift started; None where there was none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        last = content["trained"] if content["model_version"] == version else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return last if isinstance(last, dict) else None


def note_training(path: Path, result: dict[str, Any]) -> None:
    """Into the proposal that started it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, content | {"trained": result})


def command(config: WatchConfig) -> str:
    return f"python scripts/drift.py retrain=true data={config.data.name} data.root={config.data.root}"


def _proposal(config: WatchConfig, found: Look, labels: Labels) -> dict[str, Any]:
    decision = found.decision
    return {
        "format": 1,
        "proposed_at": iso(found.at),
        "model_version": found.watched.version,
        "bundle": str(found.watched.bundle),
        "since": iso(found.course.since or found.at),
        "reasons": list(decision.reasons),
        "tests": list(decision.tests),
        "products": list(decision.examples),  # prediction ids
        "categories": _categories(found.reports),
        "labels": asdict(labels),
        "labels_needed": config.min_labels,
        "command": command(config),
        "command_with_a_new_catalogue": f"{command(config)} add_feedback=false",
    }


def _categories(reports: Sequence[DriftReport]) -> list[dict[str, Any]]:
    """Those whose share changed, as the scale says that sees most of it."""
    changed = max(([each for each in report.label_shift if each.changed] for report in reports), key=len)
    return [{"code": each.code, "reference": each.reference, "share": asdict(each.share)} for each in changed]
