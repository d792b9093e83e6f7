"""The page: where each panel is, and its frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from deploy.monitoring.picture.cells import heatmap, timeline
from deploy.monitoring.picture.figures import bars, stat
from deploy.monitoring.picture.graphs import graph
from deploy.monitoring.picture.tables import table
from deploy.monitoring.picture.view import View

WIDTH, UNIT, GAP, HEADER = 1920, 38, 8, 96
"""Pixels: the page, a grid unit with its gap, the gap, Grafana's own bars above the panels."""
_CHOSEN = {"datasource": "Prometheus", "window": "auto"}
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
_DRAWN: dict[str, Callable[[Mapping[str, Any], View, float, float], str]] = {
    "timeseries": graph,
    "stat": stat,
    "bargauge": bars,
    "heatmap": heatmap,
    "state-timeline": timeline,
    "table": table,
}


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
