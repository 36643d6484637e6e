"""What a look found, as the person on call reads it."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from rakuten.monitor.decisions import Course
from rakuten.monitor.drift.report import DriftReport, Interval, ShareEstimate, TestResult
from rakuten.monitor.job import Look, iso
from rakuten.monitor.retraining import ROLLBACK

_STATES = {
    "ok": "[green]ok[/green]",
    "drift": "[bold red]drift[/bold red]",
    "not_enough_data": "[dim]not enough data[/dim]",
}
_SEVERITIES = {"none": "bold green", "warning": "bold yellow", "alarm": "bold red"}


def summary(found: Look) -> RenderableType:
    """Tests of the newest window, estimates, and the decision in words at the end, where a terminal shows it."""
    report = found.reports[0]
    parts: list[RenderableType] = [_tests(found, report)]
    shifts = [each for each in report.label_shift if each.changed]
    if shifts:
        parts.append(_shifts(shifts))
    parts += ["", *_accuracies(report), "", *_words(found)]
    return Group(*parts)


def _tests(found: Look, report: DriftReport) -> Table:
    title = (
        f"version {found.watched.version} · {report.n:,} products of {found.num_answers:,} answers,"
        f" {iso(found.first_at)} to {iso(found.last_at)} · {report.n_reference:,} held-out products"
    )
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("state", "p", "effect", "matters from", "products"):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    table.add_column("what changed")
    for result in report.results:
        table.add_row(*_row(result), style="dim" if result.state == "not_enough_data" else None)
    return table


def _row(result: TestResult) -> Iterator[str]:
    yield escape(result.name)
    yield _STATES[result.state]
    yield "" if result.p_adjusted is None else f"{result.p_adjusted:.2g}"
    yield "" if result.effect is None else f"{result.effect:.3f}"
    yield f"{result.least_effect:g}"
    yield f"{result.n:,}"
    yield escape(result.text) if result.state != "ok" else ""


def _shifts(shifts: list[ShareEstimate]) -> Table:
    table = Table(
        title="true categories, as estimated from the answers", title_justify="left", title_style="bold"
    )
    table.add_column("category")
    for name in ("held out", "now", "between"):
        table.add_column(name, justify="right")
    for each in shifts:
        low, high = each.share.low, each.share.high
        table.add_row(
            str(each.code), f"{each.reference:.1%}", f"{each.share.value:.1%}", f"{low:.1%} and {high:.1%}"
        )
    return table


def _accuracies(report: DriftReport) -> Iterator[str]:
    yield f"accuracy on held-out products    {report.reference_accuracy:.1%}"
    yield f"estimated now, without labels    {_interval(report.estimated_accuracy)}"
    feedback = f" of {report.num_feedback:,} with feedback" if report.num_feedback else ""
    yield f"true now, as feedback says       {_interval(report.true_accuracy)}{feedback}"


def _interval(value: Interval | None) -> str:
    return "not known" if value is None else f"{value.value:.1%} ({value.low:.1%} to {value.high:.1%})"


def _words(found: Look) -> Iterator[str]:
    decision = found.decision
    style = _SEVERITIES[decision.severity]
    yield f"[{style}]{_headline(found)}[/{style}]"
    yield from (f"  {escape(reason)}" for reason in decision.reasons)
    newest = {each.name for each in found.reports[0].drifted}
    if decision.kind == "drift" and not newest & set(decision.tests):
        yield f"  seen in the last {found.reports[-1].n:,} products together, not in the newest window alone"
    if decision.examples:
        yield f"  products that show it most: {escape(', '.join(decision.examples[:5]))}"
    if decision.kind == "collapse":
        yield f"  the release before: {ROLLBACK}"
    if found.course.resolved is not None:
        past = found.course.resolved
        yield escape(
            f"  over: the {past.severity} of {iso(past.at)} ({'; '.join(past.reasons) or past.kind})"
        )
    if found.is_past:
        yield "  a look at a time that was asked for: neither remembered nor shown to Prometheus"


def _headline(found: Look) -> str:
    decision = found.decision
    if decision.kind == "not_enough_data":
        report = found.reports[0]
        needed = max((each.n_needed for each in report.results), default=0)
        return f"not enough data: {report.n:,} products, a test needs {needed}"
    if decision.severity == "none":
        return "no drift"
    what = "the model has collapsed" if decision.kind == "collapse" else "what is asked has changed"
    return f"{decision.severity}: {what}{_since(found, found.course)}"


def _since(found: Look, course: Course) -> str:
    return f", since {iso(course.since)}" if course.since is not None and course.since < found.at else ""
