"""What people see of a study: a bar while it runs, a table at its end."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from rakuten.config.space import as_text
from rakuten.config.sweep import SweepConfig
from rakuten.experiment.sweep.study import REASON, RESULT, Claim, Ending

TOP = 10  # trials of the closing table
_STYLES = {"complete": "green", "pruned": "dim", "failed": "red"}


class SweepDisplay:
    """The bar, and a line for each trial that ends."""

    def __init__(self, console: Console, name: str, num_trials: int, settings: SweepConfig):
        self._console, self._num_trials, self._settings = console, num_trials, settings
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(name, total=num_trials, said="")
        self._started, self._finished_before = time.monotonic(), -1

    def __enter__(self) -> "SweepDisplay":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def ended(self, claim: Claim, ending: Ending) -> None:
        scores = "  ".join(
            f"{name} {ending.values[name]:.4f}"
            for name in self._settings.objective
            if ending.state == "complete"
        )
        style = _STYLES[ending.state]
        told = scores or (ending.reason or "")
        self.say(f"trial {claim.number:>3}  [{style}]{ending.state:<8}[/{style}]  {told}")

    def show(self, trials: Sequence[FrozenTrial], front: Sequence[FrozenTrial], num_running: int) -> None:
        """`num_running` are this worker's own."""
        counts = {state: sum(trial.state == state for trial in trials) for state in TrialState}
        finished = sum(trial.state.is_finished() for trial in trials)
        if self._finished_before < 0:
            self._finished_before = finished
        elsewhere = counts[TrialState.RUNNING] - num_running
        parts = [
            self._best(trials, front),
            f"{counts[TrialState.RUNNING]} running" + (f" ({elsewhere} elsewhere)" if elsewhere > 0 else ""),
            f"{counts[TrialState.PRUNED]} pruned",
            f"{counts[TrialState.FAIL]} failed",
            self._time_left(finished),
        ]
        self._progress.update(self._task, completed=finished, said=" · ".join(part for part in parts if part))

    def _best(self, trials: Sequence[FrozenTrial], front: Sequence[FrozenTrial]) -> str:
        ranked = rank(trials, self._settings)
        if not ranked:
            return ""
        if len(self._settings.objective) > 1:
            return f"{len(front)} on the front"
        assert ranked[0].value is not None
        return f"best {ranked[0].value:.4f}"

    def _time_left(self, finished: int) -> str:
        done = finished - self._finished_before
        if done <= 0:
            return ""
        left_s = (self._num_trials - finished) * (time.monotonic() - self._started) / done
        minutes, seconds = divmod(round(left_s), 60)
        return f"{minutes}:{seconds:02d} left"


def rank(trials: Sequence[FrozenTrial], settings: SweepConfig) -> list[FrozenTrial]:
    """Complete trials, best first; by the first objective where there are several."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    sign = -1 if settings.direction[0] == "maximize" else 1
    return sorted(complete, key=lambda trial: (sign * trial.values[0], trial.number))


def trial_table(trials: Sequence[FrozenTrial], settings: SweepConfig, title: str) -> Table:
    """Trials, best first, with their parameters."""
    shown = rank(trials, settings)[:TOP]
    names = list(dict.fromkeys(name for trial in shown for name in trial.params))
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold")
    table.add_column("trial", justify="right", no_wrap=True)
    for objective in settings.objective:
        table.add_column(objective.replace("_", " "), justify="right", no_wrap=True)
    table.add_column("parameters")
    for place, trial in enumerate(shown):
        values = [f"{value:.4f}" for value in trial.values]
        params = (f"{short_name(name, names)}={_cell(value)}" for name, value in trial.params.items())
        style = "bold" if place == 0 and len(settings.objective) == 1 else None
        table.add_row(str(trial.number), *values, "  ".join(params), style=style)
    return table


def reasons(trials: Sequence[FrozenTrial]) -> Mapping[str, list[int]]:
    """Why trials failed -> their numbers."""
    found: dict[str, list[int]] = {}
    for trial in trials:
        if trial.state == TrialState.FAIL:
            found.setdefault(str(trial.user_attrs.get(REASON, "unknown")), []).append(trial.number)
    return found


def spent_s(trials: Sequence[FrozenTrial]) -> float:
    """Seconds of training in all trials together."""
    return float(sum(trial.user_attrs.get(RESULT, {}).get("train_s", 0.0) for trial in trials))


def short_name(name: str, names: Sequence[str]) -> str:
    """The last part of a name, the whole of it where another ends alike."""
    last = name.replace("/", ".").rpartition(".")[2]
    alike = [other for other in names if other.replace("/", ".").rpartition(".")[2] == last]
    return last if len(alike) == 1 else name


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else as_text(value)
