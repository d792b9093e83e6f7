"""What an alert is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; its page is the file below RUNBOOKS that has a heading of its name."""

    name: str
    expr: str
    after: str = ""
    """How long it must hold; empty: at once."""
    severity: str
    """critical: stop what you do; warning: today; info: look when you tune."""
    pillar: str
    page: str
    summary: str
    description: str
