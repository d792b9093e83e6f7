"""Rows of cells over time: histograms and states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from deploy.monitoring.picture.axes import NO_DATA, along, svg, times
from deploy.monitoring.picture.values import shown, wording
from deploy.monitoring.picture.view import View, lines_of


def heatmap(panel: Mapping[str, Any], view: View, width: float, height: float) -> str:
    """A histogram over time, the more the brighter."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    found = sorted(view.ask(panel["targets"][0]), key=lambda s: float(s.labels["le"]))
    if not found:
        return NO_DATA
    cells: dict[tuple[int, float], float] = {}
    for row, series in enumerate(found):
        below = dict(found[row - 1].points) if row else {}
        for at, value in series.points:
            cells[row, at] = max(0.0, value - below.get(at, 0.0))
    most = max(cells.values(), default=0) or 1
    bottom, left, right = height - 30 - 26, 58, width - 14
    tall = (bottom - 6) / len(found)

    across = along(view, left, right)
    wide = across(view.start + view.step) - left
    drawn = [times(view, across, bottom)]
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
    return svg(width, bottom + 24, drawn)


def timeline(panel: Mapping[str, Any], view: View, width: float, height: float) -> str:
    """States over time, a row for each series."""
    lines = lines_of(panel, view)
    if not lines:
        return NO_DATA
    words = wording(panel["fieldConfig"]["defaults"])
    bottom, left, right = height - 30 - 40, 150, width - 14
    tall = (bottom - 6) / len(lines)

    across = along(view, left, right)
    drawn = [times(view, across, bottom)]
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
    return svg(width, bottom + 22, drawn) + f"<ul>{items}</ul>"
