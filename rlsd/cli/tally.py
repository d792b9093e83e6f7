"""How far `rlsd verify` is, and what it found: counts by kind and outcome, on standard error."""

from __future__ import annotations

import collections
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rlsd.trajectory import Verdict, VerdictOutcome

_COLUMNS = ("passed", "partly", "failed", "timeout", "error")


class Tally:
    """Counts verdicts; a context manager that shows them unless it is told not to."""

    def __init__(self, num_cases: int, *, shown: bool) -> None:
        """Prepare for `num_cases` verdicts."""
        self._console = Console(stderr=True, highlight=False, quiet=not shown)
        self._progress = Progress(
            TextColumn("verdicts"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not (shown and self._console.is_terminal),
        )
        self._task = self._progress.add_task("verdicts", total=num_cases)
        self._counts: dict[str, collections.Counter[str]] = {}
        self._seconds: dict[str, float] = collections.defaultdict(float)
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Show the table instead of it."""
        self._progress.stop()
        if self._counts:
            self._console.print(self._table())

    def count(self, kind: str, verdict: Verdict) -> None:
        """One verdict more."""
        self._counts.setdefault(kind, collections.Counter())[_column(verdict)] += 1
        self._seconds[kind] += verdict.duration_s
        self._progress.advance(self._task)

    def _table(self) -> Table:
        total = sum((counts.total() for counts in self._counts.values()), 0)
        elapsed_s = time.monotonic() - self._started
        table = Table(title=f"{total} verdicts in {elapsed_s:.1f} s", title_justify="left")
        table.add_column("kind")
        for column in (*_COLUMNS, "mean ms"):
            table.add_column(column, justify="right")
        for kind, counts in sorted(self._counts.items()):
            mean_ms = 1000 * self._seconds[kind] / counts.total()
            numbers = [str(counts[column]) if counts[column] else "-" for column in _COLUMNS]
            table.add_row(_shown(kind), *numbers, f"{mean_ms:.1f}")
        return table


def _column(verdict: Verdict) -> str:
    if not verdict.is_scored:
        return "timeout" if verdict.outcome is VerdictOutcome.TIMEOUT else "error"
    return {1.0: "passed", 0.0: "failed"}.get(verdict.reward, "partly")


def _shown(kind: str) -> str:
    """The file's own word, without what a terminal or rich would take for a command."""
    return "".join(c if c.isprintable() else "?" for c in kind).replace("[", "\\[")
