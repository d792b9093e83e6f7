"""The progress of a run in a terminal: one panel that redraws, or plain lines without one."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from rlsd.cli.sparkline import sparkline
from rlsd.local.system import Status


class RunDisplay:
    """Shows a learner's status; a context manager."""

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._console = console
        self._progress = Progress(
            TextColumn("step"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("step", total=None)
        self._accuracies: list[float] = []
        self._event = "starting Redis and the four services"
        self._live = Live(self._render(None), console=console, refresh_per_second=4)
        self._last_line = time.monotonic()

    def __enter__(self) -> RunDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def event(self, text: str) -> None:
        """A line about the system itself."""
        self._event = text
        if self._console.is_terminal:
            self._live.update(self._render(None))
        else:
            self._console.print(text)

    def status(self, status: Status) -> None:
        """A new snapshot."""
        self._progress.update(self._task, completed=status.step, total=status.num_steps)
        self._event = "training"
        is_new = status.HasField("held_out_accuracy") and (
            not self._accuracies or self._accuracies[-1] != status.held_out_accuracy
        )
        if is_new:
            self._accuracies.append(status.held_out_accuracy)
        if self._console.is_terminal:
            self._live.update(self._render(status))
        elif is_new:
            self._console.print(
                f"step {status.step}/{status.num_steps}  reward {status.reward_mean:.2f}  "
                f"held-out accuracy {status.held_out_accuracy:.1%}"
            )

    def _render(self, status: Status | None) -> Panel:
        rows = Table.grid(padding=(0, 2))
        if status is not None:
            for name, value in _facts(status).items():
                rows.add_row(f"[dim]{name}[/dim]", value)
            if self._accuracies:
                bars = sparkline(self._accuracies, 40)
                latest = f"[bold]{self._accuracies[-1]:.1%}[/bold]  {bars}"
                rows.add_row("[dim]held-out accuracy[/dim]", latest)
        rows.add_row("[dim]now[/dim]", self._event if status is None else status.waiting_for)
        return Panel(Group(self._progress, rows), title=self._title, title_align="left")


def _facts(status: Status) -> dict[str, str]:
    rejected, failed = sum(status.rejected.values()), sum(status.failed.values())
    queues = "  ".join(f"{stage} {depth}" for stage, depth in sorted(status.queue_depths.items()))
    return {
        "reward": f"{status.reward_mean:.3f}",
        "groups": f"{status.admitted} admitted = {status.trained} trained + {rejected} rejected "
        f"+ {failed} failed + {status.in_flight} in flight",
        "queues": queues or "-",
        "staleness": f"{status.staleness_mean_versions:.2f} versions",
    }
