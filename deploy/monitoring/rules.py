"""Recording rules and alerts as a Prometheus rule file.

Durations stand in angle brackets: `<5m>` is a PromQL duration, `<900>` a number of seconds. A test
renders the same rules with all of them divided, so that an alert fires within seconds.
"""

from __future__ import annotations

import re
from typing import Any

from deploy.monitoring.alerts import ALERTS
from deploy.monitoring.alerts.alert import Alert
from deploy.monitoring.recorded.engines import ENGINES
from deploy.monitoring.recorded.run import RECORDED

RUNBOOKS = "docs/runbooks"
"""Where the runbook pages are; the chart puts `monitoring.rules.runbookUrl` in its place."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"<(\d+)([smhd]?)>")


def scaled(text: str, scale: float = 1.0) -> str:
    """The text with its durations divided: `<5m>` at 60 is `5s`."""

    def one(found: re.Match[str]) -> str:
        seconds = int(found[1]) * _SECONDS[found[2] or "s"] / scale
        if not found[2]:
            return f"{seconds:g}"
        whole = f"{found[1]}{found[2]}"
        return whole if scale == 1 else f"{max(1, round(1000 * seconds))}ms"

    return _DURATION.sub(one, text)


def rules(scale: float = 1.0, *, runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """The file; all durations are divided by `scale`."""
    interval = scaled("<30s>", min(scale, 30.0))
    recorded = [
        {"name": name, "interval": interval, "rules": [_recording(*x, scale) for x in of.items()]}
        for name, of in (("rlsd-recorded", RECORDED), ("rlsd-engines", ENGINES))
    ]
    alerts = {"name": "rlsd-alerts", "interval": interval}
    return {"groups": [*recorded, alerts | {"rules": [_alert(x, scale, runbooks) for x in ALERTS]}]}


def _recording(name: str, expr: str, scale: float) -> dict[str, Any]:
    return {"record": name, "expr": _lines(expr, scale)}


def _alert(alert: Alert, scale: float, runbooks: str) -> dict[str, Any]:
    after = {"for": scaled(alert.after, scale)} if alert.after else {}
    return {
        "alert": alert.name,
        "expr": _lines(alert.expr, scale),
        **after,
        "labels": {"severity": alert.severity, "pillar": alert.pillar},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{runbooks}/{alert.page}.md#{alert.name.lower()}",
        },
    }


def _lines(expr: str, scale: float) -> str:
    """An expression without the indentation of this file."""
    lines = scaled(expr, scale).strip("\n").splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[indent:].rstrip() for line in lines)
