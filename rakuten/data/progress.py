"""The bar of work that takes longer than a glance."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(console: Console | None, *, transient: bool = False) -> Progress:
    """A bar on `console`; silent where there is none, or none that a person watches; a `transient` one goes when it is done."""
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = console is None or not console.is_terminal
    return Progress(*columns, console=console, transient=transient, disable=hidden)
