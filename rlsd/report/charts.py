"""Charts as inline SVG. Pure: numbers in, markup out.

Colours come from the page's style sheet, so that one drawing serves light and dark.

One rule: an axis always says what it measures and in which unit; accuracy always spans 0 to 100 %.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from markupsafe import Markup, escape

from rlsd.report.records import Column

MAX_POINTS = 400
MAX_BARS = 60
SMOOTHING_STEPS = 10


class Unit(StrEnum):
    """How the numbers of an axis are written."""

    SHARE = "share"
    """0 … 1, written in percent."""
    SECONDS = "seconds"
    PLAIN = "plain"


class Stroke(StrEnum):
    """How a line is drawn; the values are style-sheet classes."""

    LINE = "line"
    FAINT = "faint"
    """One seed, or the raw values behind a moving mean."""
    DASHED = "dashed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line."""

    name: str
    data: Column
    colour: int
    """Slot of the palette, 1 … 8."""
    stroke: Stroke = Stroke.LINE
    listed: bool = True
    """Whether legend and tooltip name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The vertical axis."""

    label: str
    """With the unit: "loss", "completion, tokens"."""
    unit: Unit = Unit.PLAIN
    low: float | None = None
    """Fixed lower end; None fits the data."""
    high: float | None = None
    x_label: str = "step"
    at_least: float | None = None
    """The upper end is not below this, so that a flat line near 0 looks flat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Size of the drawing in its own units."""

    width: int = 400
    height: int = 218
    left: int = 46
    right: int = 12
    top: int = 24
    bottom: int = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing with its words."""

    title: str
    svg: Markup
    legend: tuple[Series, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """From numbers to places in the frame."""

    x0: float
    x1: float
    y0: float
    y1: float
    frame: Frame

    def x(self, value: float) -> float:
        inner = self.frame.width - self.frame.left - self.frame.right
        return round(self.frame.left + inner * (value - self.x0) / (self.x1 - self.x0), 1)

    def y(self, value: float) -> float:
        inner = self.frame.height - self.frame.top - self.frame.bottom
        return round(self.frame.top + inner * (self.y1 - value) / (self.y1 - self.y0), 1)


HERO = Frame(width=620, height=372, left=54, top=26)
LOW = Frame(height=140)
CARD = Frame()


def line_chart(
    title: str, series: Sequence[Series], axis: Axis, *, frame: Frame = CARD, note: str = ""
) -> Chart | None:
    """Lines over steps; None when no series has a number."""
    shown = [_thinned(s) for s in series if s.data]
    if not shown:
        return None
    scale = _scale(shown, axis, frame)
    parts = [*_grid(scale, axis), *(_polyline(s, scale) for s in shown)]
    hover = _hover([s for s in shown if s.listed], scale, axis)
    svg = _svg(parts, frame, f"{title}: {axis.label} by {axis.x_label}", hover)
    return Chart(title=title, svg=svg, legend=tuple(s for s in shown if s.listed), note=note)


def stacked_chart(
    title: str, layers: Sequence[Series], axis: Axis, *, frame: Frame = CARD
) -> Chart | None:
    """Layers stacked over steps as bars, long runs in means of neighbouring steps."""
    shown = [s for s in layers if s.data]
    if not shown:
        return None
    steps = sorted({x for s in shown for x in s.data.steps})
    by_step = [dict(zip(s.data.steps, s.data.values, strict=True)) for s in shown]
    table = np.array([[row.get(x, 0.0) for x in steps] for row in by_step])
    edges = np.unique(np.linspace(0, len(steps), min(MAX_BARS, len(steps)) + 1).astype(int))
    means = np.add.reduceat(table, edges[:-1], axis=1) / np.diff(edges)
    scale = _Scale(
        x0=steps[0] - 0.5,
        x1=steps[-1] + 0.5,
        y0=0.0,
        y1=_nice_ceiling(float(means.sum(axis=0).max())),
        frame=frame,
    )
    bars = [
        _bars(s.colour, means[: i + 1], [steps[e] for e in edges[:-1]], scale)
        for i, s in enumerate(shown)
    ]
    svg = _svg([*_grid(scale, axis), *bars], frame, f"{title}: {axis.label} by step", None)
    return Chart(title=title, svg=svg, legend=tuple(shown))


def smoothed(data: Column, width: int = SMOOTHING_STEPS) -> Column:
    """Mean of each value and up to `width` - 1 before it."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(data.values)]))
    ends = np.arange(1, len(data.values) + 1)
    starts = np.maximum(ends - width, 0)
    return Column(steps=data.steps, values=tuple((sums[ends] - sums[starts]) / (ends - starts)))


def format_number(value: float, unit: Unit) -> str:
    """A number for people, with its unit where it is short."""
    match unit:
        case Unit.SHARE:
            percent = value * 100
            digits = 0 if abs(percent) >= 9.95 or percent == 0 else 1
            return f"{percent:.{digits}f} %"
        case Unit.SECONDS:
            return f"{value:.0f} s" if value >= 10 else f"{value:.3g} s"
        case Unit.PLAIN:
            return _plain(value)


def _plain(value: float) -> str:
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 1000 else f"{value:.3g}"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers within [low, high]."""
    step = _round_step((high - low) / count)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _round_step(raw: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))


def _nice_ceiling(value: float) -> float:
    if value <= 0:
        return 1.0
    step = _round_step(value / 4)
    return math.ceil(value / step - 1e-9) * step


def _num_ticks(frame: Frame) -> int:
    return 4 if frame.height > LOW.height else 2


def _scale(series: Sequence[Series], axis: Axis, frame: Frame) -> _Scale:
    xs = [x for s in series for x in s.data.steps]
    ys = [y for s in series for y in s.data.values]
    low = min(ys) if axis.low is None else axis.low
    high = max(ys) if axis.high is None else axis.high
    if axis.at_least is not None:
        high = max(high, axis.at_least)
    if high <= low:
        low, high = (low - 0.5, low + 0.5) if axis.low is None else (low, low + 1.0)
    if axis.high is None or axis.low is None:
        step = _round_step((high - low) / _num_ticks(frame))
        low = low if axis.low is not None else math.floor(low / step + 1e-9) * step
        high = high if axis.high is not None else math.ceil(high / step - 1e-9) * step
    right = max(xs) if max(xs) > min(xs) else min(xs) + 1
    return _Scale(x0=min(xs), x1=right, y0=low, y1=high, frame=frame)


def _grid(scale: _Scale, axis: Axis) -> list[Markup]:
    """Horizontal rules with their numbers, step numbers, and both axis labels."""
    frame = scale.frame
    base = frame.height - frame.bottom
    parts = []
    values = ticks(scale.y0, scale.y1, _num_ticks(frame))
    is_whole = all(abs(v * 100 - round(v * 100)) < 1e-9 for v in values)
    for value in values:
        y = scale.y(value)
        text = f"{value * 100:.0f} %" if axis.unit is Unit.SHARE and is_whole else None
        parts.append(_rule(frame.left, frame.width - frame.right, y))
        parts.append(_text(frame.left - 6, y + 4, text or format_number(value, axis.unit), "end"))
    x_ticks = [x for x in ticks(scale.x0, scale.x1, 5) if x == int(x)]
    parts += [_text(scale.x(x), base + 15, _plain(x), "middle") for x in x_ticks]
    parts.append(_text(frame.left - 14, base + 15, axis.x_label, "end", "name x"))
    parts.append(_text(2, 12, axis.label, "start", "name"))
    return parts


def _rule(x1: float, x2: float, y: float) -> Markup:
    return Markup('<path class="rule" d="M{} {}H{}"/>').format(x1, y, x2)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, round(x, 1), round(y, 1), anchor, text
    )


def _polyline(series: Series, scale: _Scale) -> Markup:
    """A line, with dots where points are few."""
    data = series.data
    places = [
        (scale.x(x), scale.y(min(max(y, scale.y0), scale.y1)))
        for x, y in zip(data.steps, data.values, strict=True)
    ]
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in places)
    line = Markup('<path class="series {} c{}" d="{}"/>').format(
        series.stroke.value, series.colour, path
    )
    if series.stroke is Stroke.FAINT or (len(places) > 1 and len(places) > 25):
        return line
    dots = "".join(f'<circle r="2.6" cx="{x:g}" cy="{y:g}"/>' for x, y in places)
    return line + Markup('<g class="dots c{}">').format(series.colour) + Markup(dots + "</g>")


def _bars(colour: int, stack: object, starts: Sequence[float], scale: _Scale) -> Markup:
    """One layer as a single path; `stack` is [layers so far, bars]."""
    table = np.asarray(stack)
    tops, bottoms = table.sum(axis=0), table[:-1].sum(axis=0)
    ends = [*(start - 0.5 for start in starts[1:]), scale.x1]
    gap = 0.8 if len(starts) > 1 else 0.0
    pieces = []
    for start, end, top, bottom in zip(starts, ends, tops, bottoms, strict=True):
        left, right = scale.x(start - 0.5), scale.x(end) - gap
        pieces.append(
            f"M{left:g} {scale.y(bottom):g}V{scale.y(top):g}H{right:.1f}V{scale.y(bottom):g}z"
        )
    return Markup('<path class="bar c{}" d="{}"/>').format(colour, "".join(pieces))


def _thinned(series: Series) -> Series:
    """At most MAX_POINTS points: means of neighbours."""
    data = series.data
    if len(data.values) <= MAX_POINTS:
        return series
    edges = np.linspace(0, len(data.values), MAX_POINTS + 1).astype(int)
    sizes = np.diff(edges)
    steps = np.add.reduceat(np.asarray(data.steps), edges[:-1]) / sizes
    values = np.add.reduceat(np.asarray(data.values), edges[:-1]) / sizes
    return Series(
        name=series.name,
        data=Column(steps=tuple(np.round(steps).tolist()), values=tuple(values.tolist())),
        colour=series.colour,
        stroke=series.stroke,
        listed=series.listed,
    )


def _hover(series: Sequence[Series], scale: _Scale, axis: Axis) -> str:
    """What the pointer reads: places, step numbers, and each line's numbers as text."""
    steps = sorted({x for s in series for x in s.data.steps})
    rows = []
    for s in series:
        values = dict(zip(s.data.steps, s.data.values, strict=True))
        texts = [format_number(values[x], axis.unit) if x in values else "" for x in steps]
        rows.append({"name": s.name, "colour": s.colour, "text": texts})
    labels = [f"{axis.x_label} {_plain(x)}" for x in steps]
    return json.dumps(
        {"x": [scale.x(x) for x in steps], "label": labels, "series": rows}, ensure_ascii=False
    )


def _svg(parts: Sequence[Markup], frame: Frame, label: str, hover: str | None) -> Markup:
    data = Markup(' data-hover="{}"').format(hover) if hover is not None else Markup("")
    cross = Markup('<path class="cross" d="M0 {}V{}"/>').format(
        frame.top, frame.height - frame.bottom
    )
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}"{}>{}{}</svg>').format(
        frame.width, frame.height, escape(label), data, Markup("").join(parts), cross
    )
