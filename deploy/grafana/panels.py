"""What the dashboards are made of: panels that say what a figure means, from when on it is bad, and where to read on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

RUNBOOK: Final = "docs/runbook.md"  # start/grafana.sh puts RUNBOOK_URL in its place
SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="prometheus")
HEIGHT: Final = {"stat": 4, "timeseries": 8, "table": 8}
GOOD, WARN, BAD = "green", "orange", "red"


@dataclass(frozen=True)
class Query:
    """PromQL, and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Steps:
    """From when on a figure is bad. `first` is the colour below all of them."""

    steps: tuple[tuple[float, str], ...]
    first: str = GOOD

    def builder(self) -> builders.ThresholdsConfig:
        found = [models.Threshold(None, self.first), *(models.Threshold(*step) for step in self.steps)]
        return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def above(bad: float, warn: float | None = None) -> Steps:
    """The more, the worse."""
    return Steps((*([] if warn is None else [(warn, WARN)]), (bad, BAD)))


def below(bad: float) -> Steps:
    """The less, the worse."""
    return Steps(((bad, GOOD),), first=BAD)


def lines(
    title: str,
    text: str,
    *queries: Query,
    unit: str = "short",
    steps: Steps | None = None,
    runbook: str | None = None,
    width: int = 8,
    stacked: bool = False,
    log: bool = False,
) -> timeseries.Panel:
    """Figures over time; `runbook` is the section that reads them."""
    panel = timeseries.Panel().line_width(2).fill_opacity(30 if stacked else 0).unit(unit)
    panel.legend(
        common_builders.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )
    panel.tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    if steps is not None:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(steps.builder()).thresholds_style(style)
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if log:
        scale = common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        panel.scale_distribution(scale)
    _common(panel, title, text, queries, runbook, width, HEIGHT["timeseries"])
    return panel


def figure(
    title: str,
    text: str,
    query: Query,
    *,
    unit: str = "short",
    steps: Steps | None = None,
    runbook: str | None = None,
    width: int = 4,
    names: bool = False,
    words: dict[int, str] | None = None,
) -> stat.Panel:
    """One figure of now, or the names of its series; `words` say what a figure means."""
    panel = stat.Panel().unit(unit).graph_mode(common.BigValueGraphMode.NONE)
    panel.text_mode(common.BigValueTextMode.NAME if names else common.BigValueTextMode.AUTO)
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    if steps is not None:
        panel.color_mode(common.BigValueColorMode.BACKGROUND).thresholds(steps.builder())
    if words is not None:
        said = {str(key): models.ValueMappingResult(text=word) for key, word in words.items()}
        panel.mappings([models.ValueMap(said)])
    _common(panel, title, text, [query], runbook, width, HEIGHT["stat"])
    return panel


def rows(title: str, text: str, query: Query, *, runbook: str | None = None, width: int = 8) -> table.Panel:
    """Series of now, one a line, with their labels."""
    panel = table.Panel().unit("short")
    _common(panel, title, text, [query], runbook, width, HEIGHT["table"], is_table=True)
    return panel


def _common(
    panel: Any,
    title: str,
    text: str,
    queries: Sequence[Query],
    runbook: str | None,
    width: int,
    height: int,
    *,
    is_table: bool = False,
) -> None:
    panel.title(title).description(text).datasource(SOURCE).span(width).height(height)
    for letter, query in zip("ABCDEFGH", queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id(letter).legend_format(query.legend)
        target.datasource(SOURCE)
        panel.with_target(target.format(PromQueryFormat.TABLE).instant() if is_table else target.range())
    if runbook is not None:
        link = builders.DashboardLink("Runbook").type(models.DashboardLinkType.LINK)
        panel.links([link.url(f"{RUNBOOK}#{runbook}").target_blank(True)])


def dashboard(uid: str, title: str, text: str) -> builders.Dashboard:
    """An empty one, with what all have: the other two, the runbook, and versions and pages as annotations."""
    made = builders.Dashboard(title).uid(uid).description(text).tags(["rakuten"]).refresh("30s")
    made.time("now-6h", "now").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR).readonly()
    others = builders.DashboardLink("Dashboards").type(models.DashboardLinkType.DASHBOARDS).tags(["rakuten"])
    made.link(others.keep_time(True).include_vars(True))
    made.link(
        builders.DashboardLink("Runbook").type(models.DashboardLinkType.LINK).url(RUNBOOK).target_blank(True)
    )
    return made


VERSION: Final = (
    builders.QueryVariable("version")
    .label("Model version")
    .datasource(SOURCE)
    .query("label_values(rakuten_model_info, model_version)")
    .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    .sort(models.VariableSort.NUMERICAL_DESC)
    .multi(True)
    .include_all(True)
    .all_value(".*")
    .current(models.VariableOption(True, ["All"], ["$__all"]))
)

# A minute's worth of points each, which Grafana draws as one mark.
_SERVED = "sum by (model_version) (rakuten_model_info) > 0"
_BEFORE = "sum by (model_version) (rakuten_model_info offset 1m) > 0"
ANNOTATIONS: Final = [
    {
        "name": "Versions",
        "expr": f"({_SERVED}) unless ({_BEFORE})",
        "titleFormat": "version {{model_version}} answers",
        "iconColor": "blue",
    },
    {
        "name": "Refused champions",
        "expr": 'sum(increase(rakuten_model_swaps_total{outcome="refused"}[1m])) > 0',
        "titleFormat": "a champion was refused",
        "iconColor": "orange",
    },
    {
        "name": "Pages",
        "expr": 'max by (alertname) (ALERTS{severity="page", alertstate="firing"})',
        "titleFormat": "{{alertname}}",
        "iconColor": "red",
    },
]


def to_json(made: builders.Dashboard) -> str:
    """As a file of it reads. Panels get their ids here, in the order of the page."""
    built = made.build()
    for number, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number
    body = json.loads(json.dumps(built, cls=JSONEncoder))
    # titleFormat is no field of the library's AnnotationQuery.
    shared = {"datasource": SOURCE.to_json(), "enable": True, "hide": False, "step": "15s"}
    body["annotations"] = {"list": [shared | each for each in ANNOTATIONS]}
    return json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
