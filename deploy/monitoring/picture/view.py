"""What a panel asks for, and the lines that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.monitoring.asking import Prometheus, Series, filled
from deploy.monitoring.picture.values import color

_PALETTE = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#c4a5ff")
_PALETTE += ("#37872d", "#e0b400", "#1f60c4", "#fa6400", "#c4162a", "#8f3bb8", "#96d98d", "#ffee52")


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


def lines_of(panel: Mapping[str, Any], view: View) -> list[Line]:
    """What the queries of a panel return, with colours and units."""
    defaults = panel["fieldConfig"]["defaults"]
    lines: list[Line] = []
    for target in panel["targets"]:
        own = override(panel, "byFrameRefID", target["refId"])
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


def override(panel: Mapping[str, Any], matcher: str, option: str) -> dict[str, Any]:
    """What a panel says of one query or column alone."""
    return {
        entry["id"]: entry["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"] == {"id": matcher, "options": option}
        for entry in override["properties"]
    }
