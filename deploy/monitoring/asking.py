"""A Prometheus is asked what a panel asks it."""

from __future__ import annotations

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_TIMEOUT_S = 30.0


class QueryError(Exception):
    """Prometheus refuses an expression; the text is its own."""


@dataclass(frozen=True, slots=True)
class Series:
    """Labels, and values by time (seconds since 1970)."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    def newest(self) -> float:
        """The last value that is a number; NaN when there is none."""
        return next((v for _, v in reversed(self.points) if not math.isnan(v)), math.nan)

    def named(self, legend: str) -> str:
        """Its name by a legend such as `{{run}} p95`."""
        if not legend:
            return ", ".join(v for k, v in self.labels.items() if k != "__name__")
        filled = re.sub(r"{{\s*(\w+)\s*}}", lambda m: self.labels.get(m[1], ""), legend)
        return " ".join(filled.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """One that answers at `url`."""

    url: str

    def over(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Series over time."""
        found = self._get("query_range", query=expr, start=start, end=end, step=step)["result"]
        return [_series(x["metric"], x["values"]) for x in found]

    def at(self, expr: str, time: float) -> list[Series]:
        """One value for each series."""
        found = self._get("query", query=expr, time=time)
        if found["resultType"] == "scalar":
            return [_series({}, [found["result"]])]
        return [_series(x["metric"], [x["value"]]) for x in found["result"]]

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that are pending or firing."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every loaded rule with its health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes."""
        found: list[dict[str, Any]] = self._get("targets")["activeTargets"]
        return found

    def _get(self, what: str, **parameters: object) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            said = json.loads(error.read() or b"{}").get("error", str(error))
            raise QueryError(f"{said}: {parameters.get('query', what)}") from None


def _series(labels: Mapping[str, str], values: list[tuple[float, str]]) -> Series:
    return Series(labels, tuple((float(t), float(v)) for t, v in values))


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard that ask something."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


def filled(expr: str, *, window: str, span_s: float, **variables: str) -> str:
    """The expression as Grafana sends it: variables in place, all values where none is given."""
    values = {"window": window, "__range": f"{math.ceil(span_s)}s"} | variables
    return re.sub(
        r"\$(\w+)",
        lambda m: values.get(m[1], ".*"),
        expr,
    )
