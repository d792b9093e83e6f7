"""Values, thresholds and colours as Grafana shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_COLORS = {
    "green": "#73bf69",
    "blue": "#5794f2",
    "yellow": "#fade2a",
    "orange": "#ff9830",
    "red": "#f2495c",
}


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


def threshold(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    """The colour of a value."""
    found = steps[0]["color"] if steps else "blue"
    for step in steps:
        if step.get("value") is not None and value >= step["value"]:
            found = step["color"]
    return color(found)


def wording(defaults: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Text and colour by value, where the panel has mappings."""
    return {
        value: (result["text"], color(result["color"]))
        for mapping in defaults.get("mappings", ())
        for value, result in mapping["options"].items()
    }
