"""Several runs started by one command without a study: one run above them all, scores averaged over seeds."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from rakuten.config import TrainConfig
from rakuten.config_io import to_flat_dict
from rakuten.experiment.ownership import prepare_record
from rakuten.experiment.runs import CONFIG, GROUP_TAG, RunFolder, all_runs, new_run_id
from rakuten.experiment.sweep.display import short_name
from rakuten.experiment.tracking.delivery import PARENT_TAG, start_run
from rakuten.experiment.tracking.journal import JOURNAL, Status

SCORES = ("val/weighted_f1", "test/weighted_f1", "test/macro_f1", "test/accuracy")


@contextmanager
def run_group(config: TrainConfig, console: Console) -> Iterator[list[str]]:
    """Gives the overrides that put a run below this group's; on leaving, its runs' scores, averaged over seeds.

    `config` is that of any of the runs.

    Raises:
        RakutenError: the tracking store cannot be reached or opened.
    """
    prepare_record(config, console)
    group = new_run_id()
    folder = config.outputs_dir / "sweeps" / group
    folder.mkdir(parents=True)
    tracked = start_run(
        config.tracking,
        group,
        {GROUP_TAG: group},
        journal=folder / JOURNAL,
        run_name=f"multirun-{group}",
        console=console,
    )
    tags = {GROUP_TAG: group} | ({PARENT_TAG: tracked.run_id} if tracked.run_id else {})
    status: Status = "FAILED"
    try:
        yield ["++tags={" + ",".join(f"{key}:{value}" for key, value in tags.items()) + "}"]
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        rows = over_seeds([run for run in all_runs(config.outputs_dir) if run.group == group])
        if rows:
            console.print(group_table(rows))
            tracked.log_text(yaml.safe_dump(rows, sort_keys=False, allow_unicode=True), "over_seeds.yaml")
            best = max(rows, key=lambda row: row["scores"][SCORES[0]]["mean"])
            tracked.log_metrics({f"best/{key}": value["mean"] for key, value in best["scores"].items()})
        tracked.finish(status)


def over_seeds(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """One row per setting that differs from run to run, seeds aside: {settings, seeds, scores: {name: {mean, sd}}}."""
    configs = {run.run_id: settings_of(run) for run in runs if run.result is not None}
    different = sorted(
        key
        for key in {key for config in configs.values() for key in config}
        if key != "seed" and len({str(config.get(key)) for config in configs.values()}) > 1
    )
    rows: dict[str, dict[str, Any]] = {}
    for run in reversed(runs):
        if run.result is None:
            continue
        settings = {key: configs[run.run_id].get(key) for key in different}
        row = rows.setdefault(str(settings), {"settings": settings, "seeds": [], "values": {}})
        row["seeds"].append(configs[run.run_id].get("seed"))
        for name in SCORES:
            row["values"].setdefault(name, []).append(run.result[name])
    for row in rows.values():
        row["scores"] = {
            name: {
                "mean": statistics.fmean(values),
                "sd": statistics.stdev(values) if len(values) > 1 else None,
            }
            for name, values in row.pop("values").items()
        }
    return list(rows.values())


def settings_of(run: RunFolder) -> Mapping[str, Any]:
    """The run's config, flat; empty where its folder holds none."""
    try:
        plain = yaml.safe_load((run.checkpoints / CONFIG).read_text(encoding="utf-8"))
    except OSError:
        return {}
    return {key: value for key, value in to_flat_dict(plain).items() if not key.startswith("tags.")}


def group_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Means, and standard deviations over seeds where there are several."""
    table = Table(title="\nmean over seeds", title_justify="left", title_style="bold")
    table.add_column("settings", overflow="fold", min_width=24)
    table.add_column("seeds", justify="right")
    for name in SCORES[:3]:
        table.add_column(name.replace("/", " ").replace("_", " "), justify="right", no_wrap=True)
    best = max(rows, key=lambda row: row["scores"][SCORES[0]]["mean"])
    for row in rows:
        names = list(row["settings"])
        told = [f"{short_name(name, names)}={row['settings'][name]}" for name in names]
        cells = [
            f"{score['mean']:.4f}" + (f" ± {score['sd']:.4f}" if score["sd"] is not None else "")
            for score in (row["scores"][name] for name in SCORES[:3])
        ]
        table.add_row(
            "  ".join(told) or "all alike",
            str(len(row["seeds"])),
            *cells,
            style="bold" if row is best else None,
        )
    return table
