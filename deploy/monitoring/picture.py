"""Draw a dashboard from a Prometheus, to look at it where there is no Grafana.

python -m deploy.monitoring.picture overview --prometheus http://127.0.0.1:9090 --out overview.png

It honours positions, units, thresholds, mappings, stacking and legends well enough to judge a
dashboard by; it is not Grafana. Needs a Chromium on PATH (or in CHROMIUM) for PNG; `.html` without.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from deploy.monitoring.asking import Prometheus, Series, filled

_BOARDS = Path(__file__).resolve().parents[1] / "helm/rlsd/dashboards"
WIDTH, UNIT, GAP, HEADER = 1920, 38, 8, 96
"""Pixels: the page, a grid unit with its gap, the gap, Grafana's own bars above the panels."""
_COLORS = {
    "green": "#73bf69",
    "blue": "#5794f2",
    "yellow": "#fade2a",
    "orange": "#ff9830",
    "red": "#f2495c",
}
_PALETTE = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#c4a5ff")
_PALETTE += ("#37872d", "#e0b400", "#1f60c4", "#fa6400", "#c4162a", "#8f3bb8", "#96d98d", "#ffee52")
_STYLE = """
*{box-sizing:border-box;margin:0}
body{background:#111217;color:#ccccdc;font:13px Inter,Roboto,"DejaVu Sans",sans-serif;width:1920px}
header{height:96px;padding:10px 16px}
header b{font-size:18px;font-weight:500}
header span{display:inline-block;margin:10px 14px 0 0;color:#9fa1ab}
header em{font-style:normal;color:#ccccdc;background:#1b1e24;border:1px solid #34373e;
 border-radius:2px;padding:4px 10px;margin-left:6px}
section{position:absolute;background:#181b1f;border:1px solid #25272d;border-radius:2px;
 overflow:hidden}
h2{font-size:14px;font-weight:500;height:30px;padding:7px 8px;white-space:nowrap}
h2 i{font-style:normal;color:#7b7d86;font-size:11px;margin-left:6px;border:1px solid #4a4c54;
 border-radius:50%;padding:0 5px}
h3{position:absolute;font-size:15px;font-weight:500;padding:8px}
text{fill:#9fa1ab;font-size:11px}
ul{list-style:none;padding:0 8px;display:flex;flex-wrap:wrap;gap:0 14px;font-size:12px;
 max-height:34px;overflow:hidden}
li::before{content:"";display:inline-block;width:14px;height:4px;border-radius:2px;
 background:var(--c);margin-right:6px;vertical-align:middle}
li b{font-weight:400;color:#9fa1ab;margin-left:6px}
table{border-collapse:collapse;width:100%;font-size:13px}
th{text-align:left;font-weight:500;color:#6e9fff;padding:5px 8px;border-bottom:1px solid #2c2f36}
td{padding:4px 8px;border-bottom:1px solid #22252b;white-space:nowrap}
th.n,td.n{text-align:right}
.stats{display:flex;height:calc(100% - 30px);gap:4px;padding:0 4px 4px}
.stats div{flex:1;display:flex;flex-direction:column;align-items:center;justify-content:center;
 border-radius:2px;position:relative;min-width:0;font-weight:500}
.stats small{font-size:14px;font-weight:400;z-index:1}
.stats strong{font-weight:500;z-index:1;white-space:nowrap}
.stats svg{position:absolute;bottom:0;left:0}
.none{color:#7b7d86;text-align:center;padding-top:12px}
"""


# --- values ---------------------------------------------------------------------------------------


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    """A value with its unit, as Grafana writes it."""
    if math.isnan(value):
        return "–"
    if unit == "percentunit":
        return f"{_short(100 * value, decimals)}%"
    if unit == "s":
        return _seconds(value, decimals)
    if unit in ("bytes", "Bps"):
        return _stepped(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"), decimals) + (
            "/s" if unit == "Bps" else ""
        )
    if unit == "sci":
        return "0" if value == 0 else f"{value:.{1 if decimals is None else decimals}e}"
    if unit == "short" and abs(value) >= 1000:
        return _stepped(value, 1000, ("", "K", "Mil", "Bil"), decimals)
    return _short(value, decimals)


def _short(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    if value == round(value) or abs(value) >= 1000:
        return f"{value:.0f}"
    places = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1
    return f"{value:.{places}f}".rstrip("0").rstrip(".")


def _seconds(value: float, decimals: int | None) -> str:
    size = abs(value)
    for limit, factor, name in ((1e-3, 1e6, "µs"), (1, 1e3, "ms"), (60, 1, "s")):
        if size < limit and size:
            return f"{_short(value * factor, decimals)} {name}"
    for limit, factor, name in ((3600, 60, "mins"), (86400, 3600, "hours"), (9e99, 86400, "days")):
        if 60 <= size < limit:
            return f"{_short(value / factor, decimals)} {name}"
    return "0 s"


def _stepped(value: float, base: int, names: Sequence[str], decimals: int | None) -> str:
    step = min(int(math.log(abs(value), base)) if abs(value) >= 1 else 0, len(names) - 1)
    return f"{_short(value / base**step, decimals)} {names[step]}".strip()


def color(name: str) -> str:
    """A named or a literal colour."""
    return _COLORS.get(name, name)


def _threshold(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    found = steps[0]["color"] if steps else "blue"
    for step in steps:
        if step.get("value") is not None and value >= step["value"]:
            found = step["color"]
    return color(found)


# --- panels ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a panel with what the panel says of it."""

    name: str
    series: Series
    color: str
    unit: str
    is_right: bool = False
    is_dashed: bool = False


@dataclass(slots=True)
class View:
    """Whom to ask, and for which time."""

    prometheus: Prometheus
    start: float
    end: float
    window: str
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """Seconds between points."""
        return max(1.0, (self.end - self.start) / 240)

    def ask(self, target: Mapping[str, Any]) -> list[Series]:
        """The series of a target."""
        span_s = self.end - self.start
        expr = filled(target["expr"], window=self.window, span_s=span_s, **self.variables)
        if target.get("instant"):
            return self.prometheus.at(expr, self.end)
        return self.prometheus.over(expr, self.start, self.end, self.step)


def _lines(panel: Mapping[str, Any], view: View) -> list[Line]:
    defaults = panel["fieldConfig"]["defaults"]
    lines: list[Line] = []
    for target in panel["targets"]:
        own = _override(panel, "byFrameRefID", target["refId"])
        fixed = own.get("color", {}).get("fixedColor")
        for series in view.ask(target):
            lines.append(
                Line(
                    series.named(target["legendFormat"]) or "value",
                    series,
                    color(fixed) if fixed else _PALETTE[len(lines) % len(_PALETTE)],
                    own.get("unit", defaults["unit"]),
                    own.get("custom.axisPlacement") == "right",
                    "custom.lineStyle" in own,
                )
            )
    return lines


def _override(panel: Mapping[str, Any], matcher: str, option: str) -> dict[str, Any]:
    return {
        entry["id"]: entry["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"] == {"id": matcher, "options": option}
        for entry in override["properties"]
    }


def _ticks(low: float, high: float, is_log: bool) -> list[float]:
    if is_log:
        return [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)))]
    rough = (high - low) / 4 or 1
    size = 10 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to pixels."""

    low: float
    high: float
    top: float
    bottom: float
    is_log: bool

    def place(self, value: float) -> float:
        """The pixel of a value."""
        if self.is_log:
            value, low, high = (math.log10(max(x, 1e-12)) for x in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        share = (value - low) / ((high - low) or 1)
        return self.bottom - min(1.02, max(-0.02, share)) * (self.bottom - self.top)


def _axis(
    lines: Sequence[Line], custom: Mapping[str, Any], defaults: Mapping[str, Any], bottom: float
) -> Axis:
    is_log = custom.get("scaleDistribution", {}).get("type") == "log"
    if custom.get("stacking", {}).get("mode") == "normal":
        sums: dict[float, float] = {}
        for line in lines:
            for at, value in line.series.points:
                sums[at] = sums.get(at, 0) + (value if math.isfinite(value) else 0)
        values = list(sums.values())
    else:
        values = [v for line in lines for _, v in line.series.points if math.isfinite(v)]
    if is_log:
        values = [v for v in values if v > 0]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    low = defaults.get("min", low) if not is_log else 10 ** math.floor(math.log10(low))
    if is_log:
        high = 10 ** math.ceil(math.log10(high * 1.001))
    elif "max" in defaults:
        high = max(defaults["max"], low + 1e-12)
    else:
        high += 0.08 * (high - low)
    if high <= low:
        high = low + (abs(low) or 1)
    return Axis(low, high, 6, bottom, is_log)


def _graph(panel: Mapping[str, Any], view: View, width: float, height: float) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    lines = _lines(panel, view)
    if not lines:
        return _NO_DATA
    bottom, left = height - 30 - 38 - 22, 58
    axes = {
        side: _axis([x for x in lines if x.is_right == side], custom, defaults, bottom)
        if not side
        else _axis([x for x in lines if x.is_right], {}, {"min": 0}, bottom)
        for side in (False, True)
    }
    right = width - (62 if any(x.is_right for x in lines) else 14)

    def across(at: float) -> float:
        return left + (at - view.start) / (view.end - view.start) * (right - left)

    drawn = [_grid(axes[False], left, right, lambda v: shown(v, defaults["unit"]))]
    if right < width - 20:
        unit = next(x.unit for x in lines if x.is_right)
        drawn += [
            f'<text x="{right + 6}" y="{axes[True].place(v) + 4:.1f}">{shown(v, unit)}</text>'
            for v in _ticks(axes[True].low, axes[True].high, False)
        ]
    drawn.append(_times(view, across, bottom))
    for step in defaults.get("thresholds", {}).get("steps", ()):
        value = step.get("value")
        if value is not None and axes[False].low < value < axes[False].high:
            y = axes[False].place(value)
            drawn.append(
                f'<path d="M{left} {y:.1f}H{right}" stroke="{color(step["color"])}" '
                'stroke-dasharray="8 5" fill="none"/>'
            )
    if custom.get("stacking", {}).get("mode") == "normal":
        drawn += _stack(lines, axes[False], across)
    else:
        drawn += [_path(line, axes[line.is_right], across, custom) for line in lines]
    return _svg(width, bottom + 22, drawn) + _legend(lines)


def _grid(axis: Axis, left: float, right: float, say: Callable[[float], str]) -> str:
    return "".join(
        f'<path d="M{left} {axis.place(v):.1f}H{right}" stroke="#2a2d33"/>'
        f'<text x="{left - 6}" y="{axis.place(v) + 4:.1f}" text-anchor="end">{say(v)}</text>'
        for v in _ticks(axis.low, axis.high, axis.is_log)
    )


def _times(view: View, across: Callable[[float], float], bottom: float) -> str:
    span = view.end - view.start
    step = next(s for s in (5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 86400) if s * 6 >= span)
    form = "%H:%M:%S" if step < 60 else "%H:%M"
    marks = range(math.ceil(view.start / step), math.floor(view.end / step) + 1)
    return "".join(
        f'<text x="{across(m * step):.1f}" y="{bottom + 16}" text-anchor="middle">'
        f"{time.strftime(form, time.gmtime(m * step))}</text>"
        f'<path d="M{across(m * step):.1f} 6V{bottom}" stroke="#22252b"/>'
        for m in marks
    )


def _path(
    line: Line, axis: Axis, across: Callable[[float], float], custom: Mapping[str, Any]
) -> str:
    points = [
        f"{across(t):.1f} {axis.place(v):.1f}" for t, v in line.series.points if math.isfinite(v)
    ]
    if not points:
        return ""
    if len(points) == 1:
        x, y = points[0].split()
        return f'<circle cx="{x}" cy="{y}" r="2.5" fill="{line.color}"/>'
    dash = ' stroke-dasharray="6 4"' if line.is_dashed else ""
    stroke = f'stroke="{line.color}" stroke-width="1.6"{dash}'
    path = f'<path d="M{"L".join(points)}" fill="none" {stroke}/>'
    if line.is_dashed or line.is_right:
        return path
    first, last = points[0].split()[0], points[-1].split()[0]
    opacity = custom.get("fillOpacity", 0) / 100
    return (
        f'<path d="M{first} {axis.bottom}L{"L".join(points)}L{last} {axis.bottom}Z" '
        f'fill="{line.color}" fill-opacity="{opacity}"/>{path}'
    )


def _stack(lines: Sequence[Line], axis: Axis, across: Callable[[float], float]) -> list[str]:
    times = sorted({t for line in lines for t, _ in line.series.points})
    below = dict.fromkeys(times, 0.0)
    drawn = []
    for line in lines:
        values = {t: v if math.isfinite(v) else 0.0 for t, v in line.series.points}
        above = {t: below[t] + values.get(t, 0.0) for t in times}
        edge = [f"{across(t):.1f} {axis.place(above[t]):.1f}" for t in times]
        back = [f"{across(t):.1f} {axis.place(below[t]):.1f}" for t in reversed(times)]
        drawn.append(
            f'<path d="M{"L".join(edge + back)}Z" fill="{line.color}" fill-opacity="0.7"/>'
        )
        below = above
    return drawn


def _legend(lines: Sequence[Line]) -> str:
    items = "".join(
        f'<li style="--c:{x.color}">{escape(x.name)}<b>{shown(x.series.newest(), x.unit)}</b></li>'
        for x in lines
    )
    return f"<ul>{items}</ul>"


def _stat(panel: Mapping[str, Any], view: View, width: float, height: float) -> str:
    defaults, options = panel["fieldConfig"]["defaults"], panel["options"]
    lines = _lines(panel, view)
    if not lines:
        return _NO_DATA
    words = _words(defaults)
    each = width / len(lines)
    boxes = []
    for line in lines:
        value = line.series.newest()
        text, tone = words.get(f"{value:g}", (None, None))
        text = text or shown(value, defaults["unit"], defaults.get("decimals"))
        tone = tone or _threshold(value, defaults.get("thresholds", {}).get("steps", ()))
        is_filled = options["colorMode"] == "background"
        name = f"<small>{escape(line.name)}</small>" if options["textMode"] != "value" else ""
        size = min(46 if not name else 26, (each - 14) / (0.62 * len(text)), (height - 40) * 0.62)
        style = f"background:{tone};color:#fff" if is_filled else f"color:{tone}"
        trend = _trend(line, each - 8, height - 36, tone) if options["graphMode"] == "area" else ""
        boxes.append(
            f'<div style="{style}">{trend}{name}'
            f'<strong style="font-size:{size:.0f}px">{escape(text)}</strong></div>'
        )
    return f'<div class="stats">{"".join(boxes)}</div>'


def _trend(line: Line, width: float, height: float, tone: str) -> str:
    points = [(t, v) for t, v in line.series.points if math.isfinite(v)]
    if len(points) < 2:
        return ""
    (first, _), (last, _) = points[0], points[-1]
    low, high = min(v for _, v in points), max(v for _, v in points)
    deep = height * 0.45
    path = "L".join(
        f"{(t - first) / (last - first) * width:.1f} "
        f"{deep - (v - low) / ((high - low) or 1) * deep * 0.9:.1f}"
        for t, v in points
    )
    area = f'<path d="M0 {deep}L{path}L{width} {deep}Z" fill="{tone}" fill-opacity="0.2"/>'
    return _svg(width, deep, [area, f'<path d="M{path}" fill="none" stroke="{tone}"/>'])


def _words(defaults: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        value: (result["text"], color(result["color"]))
        for mapping in defaults.get("mappings", ())
        for value, result in mapping["options"].items()
    }


def _bars(panel: Mapping[str, Any], view: View, width: float, height: float) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    lines = _lines(panel, view)
    if not lines:
        return _NO_DATA
    most = defaults.get("max") or max(x.series.newest() for x in lines) or 1
    tall = min(44.0, (height - 40) / len(lines))
    drawn = []
    for i, line in enumerate(lines):
        value, y = line.series.newest(), i * tall + 4
        tone = _threshold(value, defaults["thresholds"]["steps"])
        long = max(1.0, (width - 220) * min(1, value / most))
        drawn.append(
            f'<text x="130" y="{y + tall / 2}" text-anchor="end">{escape(line.name)}</text>'
            f'<rect x="140" y="{y}" width="{width - 220}" height="{tall - 8}" fill="#22252b"/>'
            f'<rect x="140" y="{y}" width="{long:.1f}" height="{tall - 8}" fill="{tone}"/>'
            f'<text x="{width - 70}" y="{y + tall / 2}" style="fill:{tone};font-size:15px">'
            f"{shown(value, defaults['unit'])}</text>"
        )
    return _svg(width, height - 36, drawn)


def _heatmap(panel: Mapping[str, Any], view: View, width: float, height: float) -> str:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    found = sorted(view.ask(panel["targets"][0]), key=lambda s: float(s.labels["le"]))
    if not found:
        return _NO_DATA
    cells: dict[tuple[int, float], float] = {}
    for row, series in enumerate(found):
        below = dict(found[row - 1].points) if row else {}
        for at, value in series.points:
            cells[row, at] = max(0.0, value - below.get(at, 0.0))
    most = max(cells.values(), default=0) or 1
    bottom, left, right = height - 30 - 26, 58, width - 14
    tall = (bottom - 6) / len(found)

    def across(at: float) -> float:
        return left + (at - view.start) / (view.end - view.start) * (right - left)

    wide = across(view.start + view.step) - left
    drawn = [_times(view, across, bottom)]
    for (row, at), value in cells.items():
        if value > 1e-9:
            share = (value / most) ** 0.5
            tone = f"rgb({90 + 165 * share:.0f},{40 + 120 * share:.0f},{20 + 60 * share:.0f})"
            drawn.append(
                f'<rect x="{across(at) - wide:.1f}" y="{bottom - (row + 1) * tall:.1f}" '
                f'width="{wide + 0.4:.1f}" height="{max(1, tall - 1):.1f}" fill="{tone}"/>'
            )
    every = math.ceil(len(found) / 9)
    drawn += [
        f'<text x="{left - 6}" y="{bottom - (row + 0.5) * tall + 4:.1f}" text-anchor="end">'
        f"≤ {shown(float(s.labels['le']), unit) if s.labels['le'] != '+Inf' else '∞'}</text>"
        for row, s in enumerate(found)
        if row % every == 0
    ]
    return _svg(width, bottom + 24, drawn)


def _timeline(panel: Mapping[str, Any], view: View, width: float, height: float) -> str:
    lines = _lines(panel, view)
    if not lines:
        return _NO_DATA
    words = _words(panel["fieldConfig"]["defaults"])
    bottom, left, right = height - 30 - 40, 150, width - 14
    tall = (bottom - 6) / len(lines)

    def across(at: float) -> float:
        return left + (at - view.start) / (view.end - view.start) * (right - left)

    drawn = [_times(view, across, bottom)]
    for row, line in enumerate(lines):
        y = 6 + row * tall
        drawn.append(
            f'<text x="{left - 8}" y="{y + tall / 2 + 4:.1f}" text-anchor="end">'
            f"{escape(line.name)}</text>"
        )
        wide = across(view.start + view.step) - left + 0.5
        for at, value in line.series.points:
            tone = words.get(f"{value:g}", ("", "#8e8e8e"))[1]
            drawn.append(
                f'<rect x="{across(at) - wide:.1f}" y="{y + tall * 0.1:.1f}" width="{wide:.1f}" '
                f'height="{tall * 0.8:.1f}" fill="{tone}" fill-opacity="0.8"/>'
            )
    names = dict.fromkeys(words.values())
    items = "".join(f'<li style="--c:{tone}">{escape(text)}</li>' for text, tone in names)
    return _svg(width, bottom + 22, drawn) + f"<ul>{items}</ul>"


def _table(panel: Mapping[str, Any], view: View, _width: float, _height: float) -> str:
    targets = panel["targets"]
    organize = next(x["options"] for x in panel["transformations"] if x["id"] == "organize")
    rows: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for target in targets:
        value = "Value" if len(targets) == 1 else f"Value #{target['refId']}"
        for series in view.ask(target):
            labels = {k: v for k, v in series.labels.items() if k != "__name__"}
            rows.setdefault(tuple(sorted(labels.items())), {})[value] = series.newest()
    if not rows:
        return _NO_DATA
    order = sorted(organize["indexByName"], key=organize["indexByName"].get)
    names = organize["renameByName"]
    head = "".join(
        f'<th class="{"n" if x in names else ""}">{escape(names.get(x, x))}</th>' for x in order
    )
    body = ""
    for labels, values in sorted(rows.items()):
        cells = ""
        for column in order:
            if column not in names:
                cells += f"<td>{escape(dict(labels).get(column, ''))}</td>"
                continue
            own = _override(panel, "byName", names[column])
            value = values.get(column, math.nan)
            steps = own.get("thresholds", {}).get("steps", ())
            style = f' style="color:{_threshold(value, steps)}"' if steps else ""
            text = shown(value, own["unit"], own.get("decimals"))
            cells += f'<td class="n"{style}>{text}</td>'
        body += f"<tr>{cells}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


_NO_DATA = '<p class="none">No data</p>'
_DRAWN: dict[str, Callable[[Mapping[str, Any], View, float, float], str]] = {
    "timeseries": _graph,
    "stat": _stat,
    "bargauge": _bars,
    "heatmap": _heatmap,
    "state-timeline": _timeline,
    "table": _table,
}


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return f'<svg width="{width:.0f}" height="{height:.0f}">{"".join(parts)}</svg>'


# --- the page -------------------------------------------------------------------------------------


def page(board: Mapping[str, Any], view: View) -> tuple[str, int]:
    """The dashboard as HTML, and how many pixels high it is."""
    across = (WIDTH - 2 * GAP) / 24
    parts = []
    bottom = 0
    for panel in board["panels"]:
        at = panel["gridPos"]
        x, y = GAP + at["x"] * across, HEADER + at["y"] * UNIT
        bottom = max(bottom, at["y"] + at["h"])
        if panel["type"] == "row":
            parts.append(f'<h3 style="left:{x}px;top:{y}px">⌄ {escape(panel["title"])}</h3>')
            continue
        width, height = at["w"] * across - GAP, at["h"] * UNIT - GAP
        inner = _DRAWN[panel["type"]](panel, view, width - 2, height - 2)
        parts.append(
            f'<section style="left:{x:.1f}px;top:{y}px;width:{width:.1f}px;height:{height}px">'
            f"<h2>{escape(panel['title'])}<i>i</i></h2>{inner}</section>"
        )
    chosen = "".join(
        f"<span>{escape(variable.get('label') or variable['name'])}"
        f"<em>{escape(view.variables.get(variable['name'], _CHOSEN.get(variable['name'], 'All')))}"
        "</em></span>"
        for variable in board["templating"]["list"]
    )
    head = f"<header><b>{escape(board['title'])}</b><br>{chosen}</header>"
    style = f"<meta charset=utf-8><style>{_STYLE}</style>"
    return f"<!doctype html>{style}<body>{head}{''.join(parts)}", HEADER + bottom * UNIT


_CHOSEN = {"datasource": "Prometheus", "window": "auto"}


def photograph(html: str, height: int, out: Path) -> None:
    """Let Chromium draw the page.

    Raises:
        RuntimeError: there is none, or it made no picture.
    """
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    if browser is None:
        raise RuntimeError("no chromium on PATH; install it, or write --out FILE.html")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(html)
        done = subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{height}"),
                *(f"--screenshot={out.resolve()}", source.as_uri()),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    if not out.exists():
        raise RuntimeError(f"{browser} made no picture: {done.stderr[-300:]}")


def main() -> None:
    """Draw one dashboard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("board", help="the name of a file in deploy/helm/rlsd/dashboards")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--until", type=float, default=time.time(), help="seconds since 1970")
    parser.add_argument("--window", default="1m")
    parser.add_argument("--run", default=".*")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    board = json.loads((_BOARDS / f"{given.board}.json").read_text())
    view = View(
        Prometheus(url=given.prometheus),
        given.until - 60 * given.minutes,
        given.until,
        given.window,
        {} if given.run == ".*" else {"run": given.run},
    )
    html, height = page(board, view)
    if given.out.suffix == ".html":
        given.out.write_text(html)
    else:
        photograph(html, max(height, 1080 if given.board == "overview" else 0), given.out)


if __name__ == "__main__":
    main()
