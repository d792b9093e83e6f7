"""Prometheus and promtool, as `make setup-monitoring` puts them into .prometheus."""

from __future__ import annotations

import shutil
from pathlib import Path

_PLACE = Path(__file__).resolve().parents[2] / ".prometheus/usr/bin"


def tool(name: str) -> str:
    """The path of prometheus or promtool; a test does not skip for want of it."""
    beside = _PLACE / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"no {name}; run `make setup-monitoring`"
    return found
