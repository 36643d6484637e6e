"""A study as one self-contained page: Optuna's interactive plots, which work without a network."""

import html
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
import plotly.graph_objects as go
import plotly.io
from optuna import visualization
from optuna.trial import TrialState

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{name}</title>
<style>
 body {{ font: 15px/1.5 system-ui, sans-serif; color: #1d2733; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }}
 h1 {{ font-size: 1.4rem; margin: 0 }} p {{ color: #5b6776; margin: .2rem 0 1.5rem }}
 h2 {{ font-size: 1.05rem; margin: 2rem 0 0 }}
</style></head><body><h1>{name}</h1><p>{facts}</p>
"""


def study_page(study: optuna.Study, objectives: Sequence[str]) -> str:
    """The page's HTML. Needs at least one complete trial; plots that need more are left out."""
    trials = study.get_trials(deepcopy=False)
    counts = {state: sum(trial.state == state for trial in trials) for state in TrialState}
    facts = ", ".join(f"{count} {state.name.lower()}" for state, count in counts.items() if count)
    parts = [_HEAD.format(name=html.escape(study.study_name), facts=facts)]
    for place, (title, figure) in enumerate(_figures(study, objectives)):
        figure.update_layout(title=None, template="plotly_white", margin={"t": 30, "b": 40}, height=460)
        body = plotly.io.to_html(figure, full_html=False, include_plotlyjs=place == 0)
        parts.append(f"<h2>{html.escape(title)}</h2>\n{body}\n")
    return "".join([*parts, "</body></html>\n"])


def _figures(study: optuna.Study, objectives: Sequence[str]) -> Iterator[tuple[str, go.Figure]]:
    if len(objectives) == 2 or len(objectives) == 3:
        pareto = visualization.plot_pareto_front(study, target_names=list(objectives))
        yield "Pareto front", pareto
    for place, name in enumerate(objectives):
        # Optuna wants to be told what to plot only where there is a choice.
        target: dict[str, Any] = {"target": _value(place)} if len(objectives) > 1 else {}
        target["target_name"] = name
        plots: dict[str, Callable[..., go.Figure]] = {
            "history": visualization.plot_optimization_history,
            "importance of the parameters": visualization.plot_param_importances,
            "parallel coordinates": visualization.plot_parallel_coordinate,
            "slices": visualization.plot_slice,
        }
        for title, plot in plots.items():
            figure = _drawn(plot, study, **target)
            if figure is not None:
                yield f"{name.replace('_', ' ')}: {title}", figure
    if len(objectives) == 1:
        figure = _drawn(visualization.plot_intermediate_values, study)
        if figure is not None:
            yield "validation score by epoch", figure.update_layout(showlegend=False)


def _drawn(plot: Callable[..., go.Figure], study: optuna.Study, **settings: Any) -> go.Figure | None:
    """None where the trials are too few or too much alike for this plot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return plot(study, **settings)
        except (ValueError, RuntimeError):
            return None


def _value(place: int) -> Callable[[optuna.trial.FrozenTrial], float]:
    def value(trial: optuna.trial.FrozenTrial) -> float:
        found: float = trial.values[place]
        return found

    return value
