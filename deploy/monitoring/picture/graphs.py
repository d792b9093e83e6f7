"""Series over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deploy.monitoring.picture.axes import (
    NO_DATA,
    Axis,
    along,
    axis_of,
    grid,
    legend,
    svg,
    ticks,
    times,
)
from deploy.monitoring.picture.values import color, shown
from deploy.monitoring.picture.view import Line, View, lines_of


def graph(panel: Mapping[str, Any], view: View, width: float, height: float) -> str:
    """Lines, or areas upon one another."""
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    lines = lines_of(panel, view)
    if not lines:
        return NO_DATA
    bottom, left = height - 30 - 38 - 22, 58
    axes = {
        side: axis_of([x for x in lines if x.is_right == side], custom, defaults, bottom)
        if not side
        else axis_of([x for x in lines if x.is_right], {}, {"min": 0}, bottom)
        for side in (False, True)
    }
    right = width - (62 if any(x.is_right for x in lines) else 14)
    across = along(view, left, right)
    drawn = [grid(axes[False], left, right, lambda v: shown(v, defaults["unit"]))]
    if right < width - 20:
        unit = next(x.unit for x in lines if x.is_right)
        drawn += [
            f'<text x="{right + 6}" y="{axes[True].place(v) + 4:.1f}">{shown(v, unit)}</text>'
            for v in ticks(axes[True].low, axes[True].high, False)
        ]
    drawn.append(times(view, across, bottom))
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
    return svg(width, bottom + 22, drawn) + legend(lines)


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
