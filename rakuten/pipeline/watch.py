"""scripts/drift.py: whose traffic is looked at, the look, and all that is written of it."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter
from rich.console import Console
from rich.markup import escape

from rakuten.config import TrackingConfig, WatchConfig
from rakuten.config_io import to_plain
from rakuten.errors import ConfigError, RakutenError
from rakuten.model.bundle_files import check_bundle
from rakuten.monitor.evidently_report import write_page
from rakuten.monitor.job import Look, Watched, keep, look_at
from rakuten.monitor.retraining import propose
from rakuten.monitor.summary import summary
from rakuten.monitor.texts import sides_of
from rakuten.serve.publish import read_pointer


@dataclass(frozen=True, eq=False)
class Told:
    """A look and the files that tell of it."""

    look: Look
    figures: Path
    page: Path | None
    proposal: Path | None


def watch(config: WatchConfig, console: Console) -> tuple[str, int]:
    """Look once, or stay and look as `config.schedule` says; what stdout gets, and the exit code.

    Raises:
        RakutenError: no champion, no log, nothing in it to look at, or a bundle without a reference.
    """
    check_watch(config)
    if config.flow or config.retrain or config.schedule is not None:
        from rakuten.pipeline.watch_flow import run_flow  # Prefect: ten seconds of imports on a busy machine

        told = run_flow(config, console)
    else:
        told = look_and_tell(config)
        show(config, told, console)
    if told is None:  # of a schedule that was ended
        return "", 0
    text = told.figures.read_text(encoding="utf-8") if config.json else f"{told.figures}\n"
    return text, told.look.exit_code


def check_watch(config: WatchConfig) -> None:
    """
    Raises:
        ConfigError: keys that do not go together.
    """
    if (config.bundle is None) != (config.version is None):
        raise ConfigError(
            "bundle and version go together", expected="a bundle, and what its answers say in the log"
        )
    if config.until is not None and config.since is None:
        raise ConfigError("until needs since", expected="the window is what was answered between the two")
    if config.since is not None and (config.schedule is not None or config.retrain):
        other = "schedule" if config.schedule is not None else "retrain=true"
        raise ConfigError(
            f"since does not go with {other}", expected="the one looks back, the other at what is new"
        )


def champion_of(config: WatchConfig) -> Watched:
    """
    Raises:
        RakutenError: no champion, or its bundle is not there or was changed.
    """
    if config.bundle is not None and config.version is not None:
        found = Watched(config.version, config.bundle)
    elif config.champion.startswith(("http://", "https://")):
        found = _of_registry(config)
    else:
        pointer = read_pointer(Path(config.champion))
        found = Watched(pointer.version, Path(pointer.bundle))
    check_bundle(found.bundle)
    return found


def look_and_tell(config: WatchConfig) -> Told:
    """Look, and write, remember and publish what was found; the page last, so that its failure costs nothing else.

    Raises:
        RakutenError: as `watch`, or Evidently fails.
    """
    found = look_at(config, champion_of(config))
    figures = keep(config, found)
    proposal = propose(config, found)
    page = None
    if config.evidently_dir is not None:
        title = (
            f"Version {found.watched.version}: {len(found.windows[-1]):,} products beside the held-out ones"
        )
        page = write_page(config.evidently_dir, sides_of(config, found), figures, title)
    return Told(found, figures, page, proposal)


def show(config: WatchConfig, told: Told, console: Console) -> None:
    """For people; machines get JSON alone."""
    if config.json:
        return
    console.print(summary(told.look))
    if told.proposal is not None:
        proposal = json.loads(told.proposal.read_text(encoding="utf-8"))
        labels = proposal["labels"]
        console.print(
            f"  training again is proposed in {told.proposal}: {labels['given']:,} products with feedback, the text or"
            f" photo of {labels['kept']:,} is kept\n  {escape(proposal['command'])}",
            soft_wrap=True,
        )
    if told.page is not None:
        console.print(f"  to look around in: {told.page}", soft_wrap=True)


def _of_registry(config: WatchConfig) -> Watched:
    from rakuten.experiment.locate import locate
    from rakuten.experiment.tracking.registry import CHAMPION, Registry

    values = to_plain(config.tracking) | {"kind": "mlflow", "uri": config.champion, "artifact_root": None}
    store: TrackingConfig = TypeAdapter(TrackingConfig).validate_python(values)
    registry = Registry(store, config.registered_model)
    if (version := registry.with_alias(CHAMPION)) is None:
        raise RakutenError(
            f"MLflow at {config.champion} has no champion of {config.registered_model!r}",
            fix="promote one: python scripts/promote.py",
        )
    return Watched(version.number, locate(CHAMPION, config.outputs_dir, registry).bundle)
