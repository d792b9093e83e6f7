"""The newest values: as figures, as bars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from deploy.monitoring.picture.axes import NO_DATA, svg
from deploy.monitoring.picture.values import shown, threshold, wording
from deploy.monitoring.picture.view import Line, View, lines_of


def stat(panel: Mapping[str, Any], view: View, width: float, height: float) -> str:
    """A figure for each series."""
    defaults, options = panel["fieldConfig"]["defaults"], panel["options"]
    lines = lines_of(panel, view)
    if not lines:
        return NO_DATA
    words = wording(defaults)
    each = width / len(lines)
    boxes = []
    for line in lines:
        value = line.series.newest()
        text, tone = words.get(f"{value:g}", (None, None))
        text = text or shown(value, defaults["unit"], defaults.get("decimals"))
        tone = tone or threshold(value, defaults.get("thresholds", {}).get("steps", ()))
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
    return svg(width, deep, [area, f'<path d="M{path}" fill="none" stroke="{tone}"/>'])


def bars(panel: Mapping[str, Any], view: View, width: float, height: float) -> str:
    """A horizontal bar for each series."""
    defaults = panel["fieldConfig"]["defaults"]
    lines = lines_of(panel, view)
    if not lines:
        return NO_DATA
    most = defaults.get("max") or max(x.series.newest() for x in lines) or 1
    tall = min(44.0, (height - 40) / len(lines))
    drawn = []
    for i, line in enumerate(lines):
        value, y = line.series.newest(), i * tall + 4
        tone = threshold(value, defaults["thresholds"]["steps"])
        long = max(1.0, (width - 220) * min(1, value / most))
        drawn.append(
            f'<text x="130" y="{y + tall / 2}" text-anchor="end">{escape(line.name)}</text>'
            f'<rect x="140" y="{y}" width="{width - 220}" height="{tall - 8}" fill="#22252b"/>'
            f'<rect x="140" y="{y}" width="{long:.1f}" height="{tall - 8}" fill="{tone}"/>'
            f'<text x="{width - 70}" y="{y + tall / 2}" style="fill:{tone};font-size:15px">'
            f"{shown(value, defaults['unit'])}</text>"
        )
    return svg(width, height - 36, drawn)
