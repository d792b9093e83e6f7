"""Panels, variables and dashboards as this project draws them, over Grafana's own types.

A dashboard is a list of bands; a band is a list of panels of one height, 24 columns in all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as grafana
from grafana_foundation_sdk.builders import prometheus as source
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as source_models

R = 'run=~"$run"'
"""The selector that every query has."""
W = "[$window]"
"""The range of every rate."""

GREEN, BLUE, YELLOW, ORANGE, RED, GREY = "green", "blue", "yellow", "orange", "red", "#8e8e8e"

Panel = Any
"""One of Grafana's builders."""
Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from which value on which colour; the first from None."""

MUST_BE_0: Steps = ((None, GREEN), (1, RED))
NEUTRAL: Steps = ((None, BLUE),)

_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")


# --- queries --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """An expression and how its series are named."""

    expr: str
    legend: str = "{{run}}"
    on_right: str = ""
    """A unit, if the series has the right axis."""
    dashed: bool = False
    color: str = ""


def rate(name: str, *by: str, where: str = "") -> str:
    """Per second, by run and further labels."""
    return f"sum by ({_by(by)}) (rate({name}{{{_where(where)}}}{W}))"


def count(name: str, *by: str, where: str = "") -> str:
    """How many in the window."""
    return f"sum by ({_by(by)}) (increase({name}{{{_where(where)}}}{W}))"


def mean(name: str, *by: str, where: str = "") -> str:
    """Mean of a histogram."""
    return f"{rate(f'{name}_sum', *by, where=where)} / {rate(f'{name}_count', *by, where=where)}"


def quantile(q: float, name: str, *by: str, where: str = "") -> str:
    """Of a histogram."""
    return f"histogram_quantile({q:g}, {rate(f'{name}_bucket', *by, 'le', where=where)})"


def share(name: str, *by: str, of: str, where: str = "") -> str:
    """Of a counter, the part that `of` selects."""
    part = rate(name, *by, where=", ".join(filter(None, (where, of))))
    return f"{part} / {rate(name, *by, where=where)}"


def largest(name: str, *by: str, where: str = "") -> str:
    """Of a gauge, over pods."""
    return f"max by ({_by(by)}) ({name}{{{_where(where)}}})"


def smallest(name: str, *by: str, where: str = "") -> str:
    """Of a gauge, over pods."""
    return f"min by ({_by(by)}) ({name}{{{_where(where)}}})"


def total(name: str, *by: str, where: str = "") -> str:
    """Of a gauge, over pods."""
    return f"sum by ({_by(by)}) ({name}{{{_where(where)}}})"


def or_0(expr: str) -> str:
    """The expression; 0 for a run that has no such series."""
    return f"({expr}) or on (run) (0 * max by (run) (rlsd_run_info{{{R}}}))"


def _by(labels: Iterable[str]) -> str:
    return ", ".join(("run", *labels))


def _where(further: str) -> str:
    return f"{R}, {further}" if further else R


# --- panels ---------------------------------------------------------------------------------------


def graph(  # noqa: PLR0913  what a graph has
    title: str,
    *queries: Query,
    unit: str,
    text: str,
    page: str,
    steps: Steps = (),
    stacked: bool = False,
    log: bool = False,
    least: float | None = 0,
    most: float | None = None,
    bars: bool = False,
    columns: int = 8,
) -> Panel:
    """Series over time; `steps` are drawn as lines."""
    panel = _common(timeseries.Panel(), title, queries, unit, text, page).span(columns)
    panel.line_width(1.5).fill_opacity(70 if stacked or bars else 8)
    panel.show_points(kinds.VisibilityMode.NEVER).span_nulls(True)
    panel.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(kinds.LegendDisplayMode.LIST)
        .placement(kinds.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull"])
    )
    panel.tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI))
    if least is not None and not log:
        panel.min(least)
    if most is not None:
        panel.max(most)
    if bars:
        panel.draw_style(kinds.GraphDrawStyle.BARS)
    if stacked:
        panel.line_width(0).stacking(
            common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A")
        )
    if log:
        panel.scale_distribution(
            common.ScaleDistributionConfig().type(kinds.ScaleDistribution.LOG).log(10)
        )
    if steps:
        panel.thresholds(_thresholds(steps)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED)
        )
    _override(panel, queries)
    return panel


def _override(panel: Panel, queries: Sequence[Query]) -> None:
    """What single queries have of their own."""
    for query, ref in zip(queries, _refs(), strict=False):
        properties: list[tuple[str, Any]] = []
        if query.on_right:
            properties += [("unit", query.on_right), ("custom.axisPlacement", "right")]
        if query.dashed:
            properties += [
                ("custom.lineStyle", {"fill": "dash", "dash": [6, 4]}),
                ("custom.fillOpacity", 0),
            ]
        if paint := query.color or (GREY if query.dashed else ""):
            properties.append(("color", {"mode": "fixed", "fixedColor": paint}))
        if properties:
            panel.override_by_query(
                ref, [models.DynamicConfigValue(id_val=i, value=v) for i, v in properties]
            )


def number(  # noqa: PLR0913  what a figure has
    title: str,
    *queries: Query,
    unit: str,
    text: str,
    page: str,
    steps: Steps = NEUTRAL,
    words: Mapping[str, tuple[str, str]] | None = None,
    filled: bool = False,
    named: bool = False,
    trend: bool = False,
    decimals: int | None = None,
    columns: int = 3,
) -> Panel:
    """The newest values as figures. `words`: value to text and colour."""
    panel = _common(stat.Panel(), title, queries, unit, text, page).span(columns)
    panel.thresholds(_thresholds(steps)).reduce_options(
        common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields("")
    )
    mode = kinds.BigValueColorMode.BACKGROUND if filled else kinds.BigValueColorMode.VALUE
    graph_mode = kinds.BigValueGraphMode.AREA if trend else kinds.BigValueGraphMode.NONE
    panel.color_mode(mode).graph_mode(graph_mode)
    panel.text_mode(
        kinds.BigValueTextMode.VALUE_AND_NAME if named else kinds.BigValueTextMode.VALUE
    )
    if decimals is not None:
        panel.decimals(decimals)
    if words:
        panel.mappings([_words(words)])
    return panel


def bars(  # noqa: PLR0913
    title: str,
    *queries: Query,
    unit: str,
    text: str,
    page: str,
    steps: Steps = NEUTRAL,
    most: float | None = None,
    columns: int = 6,
) -> Panel:
    """The newest value of each series as a horizontal bar."""
    panel = _common(bargauge.Panel(), title, queries, unit, text, page).span(columns)
    panel.orientation(kinds.VizOrientation.HORIZONTAL).thresholds(_thresholds(steps)).min(0)
    panel.display_mode(kinds.BarGaugeDisplayMode.BASIC).reduce_options(
        common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields("")
    )
    if most is not None:
        panel.max(most)
    return panel


def heat(  # noqa: PLR0913
    title: str,
    name: str,
    *,
    unit: str,
    text: str,
    page: str,
    where: str = "",
    columns: int = 8,
) -> Panel:
    """A histogram over time."""
    query = Query(f"sum by (le) (increase({name}_bucket{{{_where(where)}}}{W}))", "{{le}}")
    panel = _common(heatmap.Panel(), title, [query], unit, text, page).span(columns)
    panel.calculate(False).cell_gap(1).filter_values(heatmap.FilterValueRange().le(1e-9))
    panel.color(
        heatmap.HeatmapColorOptions()
        .mode(heatmap_models.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
        .steps(64)
    )
    panel.y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(kinds.AxisPlacement.LEFT))
    return panel.hide_legend()


def timeline(
    title: str,
    *queries: Query,
    words: Mapping[str, tuple[str, str]],
    text: str,
    page: str,
    columns: int = 12,
) -> Panel:
    """States over time. `words`: value to text and colour."""
    panel = _common(statetimeline.Panel(), title, queries, "none", text, page).span(columns)
    panel.mappings([_words(words)]).show_value(kinds.VisibilityMode.NEVER)
    panel.row_height(0.8).line_width(0).fill_opacity(80)
    return panel.thresholds(_thresholds(((None, GREY),)))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, its value for each row, how that is shown."""

    heading: str
    expr: str
    unit: str = "short"
    steps: Steps = ()
    decimals: int | None = None


def rows(
    title: str,
    *columns_of_it: Column,
    by: Sequence[str],
    text: str,
    page: str,
    hidden: Sequence[str] = (),
    columns: int = 12,
) -> Panel:
    """A table with a row for every combination of the labels `by`."""
    queries = [Query(c.expr, "") for c in columns_of_it]
    panel = _common(table.Panel(), title, queries, "short", text, page, in_table=True).span(columns)
    panel.cell_height(kinds.TableCellHeight.SM)
    headings = dict(zip((f"Value #{ref}" for ref in _refs()), columns_of_it, strict=False))
    if len(columns_of_it) == 1:
        headings = {"Value": columns_of_it[0]}
    names = {value: c.heading for value, c in headings.items()}
    order = [*by, *headings]
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(("Time", *hidden), True),
                "indexByName": {name: i for i, name in enumerate(order)},
                "renameByName": names,
            },
        )
    )
    for column in columns_of_it:
        properties: list[tuple[str, Any]] = [("unit", column.unit)]
        if column.decimals is not None:
            properties.append(("decimals", column.decimals))
        if column.steps:
            properties += [
                ("thresholds", _thresholds(column.steps).build()),
                ("custom.cellOptions", {"type": "color-text"}),
            ]
        panel.override_by_name(
            column.heading, [models.DynamicConfigValue(id_val=i, value=v) for i, v in properties]
        )
    return panel


def _common(  # noqa: PLR0913  what all have
    panel: Panel,
    title: str,
    queries: Sequence[Query],
    unit: str,
    text: str,
    page: str,
    *,
    in_table: bool = False,
) -> Panel:
    panel.title(title).description(text).unit(unit).datasource(_SOURCE)
    is_newest_alone = isinstance(panel, stat.Panel | bargauge.Panel | table.Panel)
    is_heatmap = isinstance(panel, heatmap.Panel)
    for query, ref in zip(queries, _refs(), strict=False):
        target = source.Dataquery().expr(query.expr).ref_id(ref).legend_format(query.legend)
        target.datasource(_SOURCE)
        if in_table:
            target.format(source_models.PromQueryFormat.TABLE)
        if is_heatmap:
            target.format(source_models.PromQueryFormat.HEATMAP)
        # Not instant for figures: with a range they show the last value when one is missing now.
        if is_newest_alone and in_table:
            target.instant()
        else:
            target.range()
        panel.with_target(target)
    link = grafana.DashboardLink("Runbook").type(models.DashboardLinkType.LINK)
    panel.links([link.url(f"docs/runbooks/{page}").target_blank(True)])
    return panel


def _refs() -> Iterable[str]:
    return "ABCDEFGHIJKL"


def _thresholds(steps: Steps) -> Any:
    return (
        grafana.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )


def _words(words: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    return models.ValueMap(
        options={
            value: models.ValueMappingResult(text=text, color=color, index=i)
            for i, (value, (text, color)) in enumerate(words.items())
        }
    )


# --- dashboards -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Band:
    """Panels beside one another, all `height` grid units high (38 pixels each)."""

    height: int
    panels: Sequence[Panel]
    title: str = ""
    """Of a row above them."""


def dashboard(
    uid: str, title: str, text: str, bands: Sequence[Band], *, variables: Sequence[str] = ()
) -> dict[str, Any]:
    """The JSON of a dashboard; `variables` beside run: kind, verifier, pod."""
    built = grafana.Dashboard(f"RLSD / {title}").uid(f"rlsd-{uid}").description(text)
    built.tags(["rlsd"]).refresh("10s").time("now-1h", "now").timezone("browser").editable()
    built.tooltip(models.DashboardCursorSync.CROSSHAIR)
    for variable in (_datasource(), *map(_label, ("run", *variables)), _window()):
        built.with_variable(variable)
    for name, expr, color in (
        (
            "restarts",
            f"max by (run, pod) (changes(process_start_time_seconds{{{R}}}[1m])) > 0",
            ORANGE,
        ),
        (
            "alerts",
            f'max by (run, alertname) (ALERTS{{alertname=~"Rlsd.+", alertstate="firing", {R}}})',
            RED,
        ),
    ):
        built.annotation(
            grafana.AnnotationQuery().name(name).datasource(_SOURCE).expr(expr).icon_color(color)
        )
    built.link(
        grafana.DashboardLink("RLSD")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags(["rlsd"])
        .include_vars(True)
        .keep_time(True)
    )
    identifier = 0
    for band in bands:
        if band.title:
            identifier += 1
            built.with_row(grafana.Row(band.title).id(identifier))
        for panel in band.panels:
            identifier += 1
            built.with_panel(panel.height(band.height).id(identifier))
    found: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(built.build()))
    return found


_LABELS = {
    "run": "label_values(rlsd_service_ready, run)",
    "kind": f"label_values(rlsd_verifier_verdicts_total{{{R}}}, kind)",
    "verifier": f"label_values(rlsd_verifier_http_circuit_state{{{R}}}, verifier)",
    "pod": f"label_values(rlsd_service_ready{{{R}}}, pod)",
}


def _label(name: str) -> Any:
    """Values of a label; Grafana escapes each for the regular expression it stands in."""
    everything = models.VariableOption(text="All", value="$__all", selected=True)
    return (
        grafana.QueryVariable(name)
        .label(name)
        .datasource(_SOURCE)
        .query({"query": _LABELS[name], "refId": name, "qryType": 1})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def _datasource() -> Any:
    return grafana.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _window() -> Any:
    """Over how long rates are taken: a slow run has minutes between its steps."""
    auto = models.VariableOption(text="auto", value="$__auto_interval_window", selected=True)
    return (
        grafana.IntervalVariable("window")
        .label("rates over")
        .values("1m,5m,15m,1h,6h")
        .auto(True)
        .min_interval("1m")
        .step_count(30)
        .current(auto)
    )
