"""A row for every combination of labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from deploy.monitoring.picture.axes import NO_DATA
from deploy.monitoring.picture.values import shown, threshold
from deploy.monitoring.picture.view import View, override


def table(panel: Mapping[str, Any], view: View, _width: float, _height: float) -> str:
    """The rows, with what the panel says of its columns."""
    targets = panel["targets"]
    organize = next(x["options"] for x in panel["transformations"] if x["id"] == "organize")
    rows: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for target in targets:
        value = "Value" if len(targets) == 1 else f"Value #{target['refId']}"
        for series in view.ask(target):
            labels = {k: v for k, v in series.labels.items() if k != "__name__"}
            rows.setdefault(tuple(sorted(labels.items())), {})[value] = series.newest()
    if not rows:
        return NO_DATA
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
            own = override(panel, "byName", names[column])
            value = values.get(column, math.nan)
            steps = own.get("thresholds", {}).get("steps", ())
            style = f' style="color:{threshold(value, steps)}"' if steps else ""
            text = shown(value, own["unit"], own.get("decimals"))
            cells += f'<td class="n"{style}>{text}</td>'
        body += f"<tr>{cells}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"
