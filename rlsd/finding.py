"""What an examination found, in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at."""

    what: str
    state: str
    remedy: str = ""
    """Empty when nothing is missing."""
    is_needed: bool = True
    """Whether a run fails without it."""
    group: str = ""
    """The heading that it stands under."""
