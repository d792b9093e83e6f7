"""From values and times to pixels, and what stands around a drawing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from deploy.monitoring.picture.values import shown
from deploy.monitoring.picture.view import Line, View

NO_DATA = '<p class="none">No data</p>'


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


def axis_of(
    lines: Sequence[Line], custom: Mapping[str, Any], defaults: Mapping[str, Any], bottom: float
) -> Axis:
    """The axis of lines that share one: from where to where."""
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


def ticks(low: float, high: float, is_log: bool) -> list[float]:
    """Round values on an axis."""
    if is_log:
        return [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)))]
    rough = (high - low) / 4 or 1
    size = 10 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


def along(view: View, left: float, right: float) -> Callable[[float], float]:
    """From times to pixels."""
    return lambda at: left + (at - view.start) / (view.end - view.start) * (right - left)


def grid(axis: Axis, left: float, right: float, say: Callable[[float], str]) -> str:
    """Lines across the drawing, with their values on the left."""
    return "".join(
        f'<path d="M{left} {axis.place(v):.1f}H{right}" stroke="#2a2d33"/>'
        f'<text x="{left - 6}" y="{axis.place(v) + 4:.1f}" text-anchor="end">{say(v)}</text>'
        for v in ticks(axis.low, axis.high, axis.is_log)
    )


def times(view: View, across: Callable[[float], float], bottom: float) -> str:
    """Lines down to the times below the drawing."""
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


def legend(lines: Sequence[Line]) -> str:
    """Colour, name and newest value of each line."""
    items = "".join(
        f'<li style="--c:{x.color}">{escape(x.name)}<b>{shown(x.series.newest(), x.unit)}</b></li>'
        for x in lines
    )
    return f"<ul>{items}</ul>"


def svg(width: float, height: float, parts: Sequence[str]) -> str:
    """A drawing of these parts."""
    return f'<svg width="{width:.0f}" height="{height:.0f}">{"".join(parts)}</svg>'
