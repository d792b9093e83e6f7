"""Completions that cite what only the teacher has read."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rlsd.trajectory import Trajectory


class Leaks:
    """Looks for the patterns of `evaluation.leakage_patterns`."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(re.compile(p) for p in patterns)

    def any_in(self, trajectory: Trajectory) -> bool:
        """Whether its last turn, or what it told a tool, matches a pattern."""
        written = [trajectory.text, *(call.arguments for call in trajectory.calls)]
        return any(p.search(text) for p in self.patterns for text in written)
