"""`rlsd status` and `rlsd top`: how a run goes, once or again and again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import termios
import tty
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.live import Live

from rlsd.cli.status_screen import screen
from rlsd.local.addresses import RunAddresses
from rlsd.watching.asking import from_environment
from rlsd.watching.ended import Ended, ended
from rlsd.watching.health import problems
from rlsd.watching.reading import METRICS_PORT, Reading, take_reading
from rlsd.watching.view import View, make_view

_EVERY_S = 2.0
_SPAN_S = 60.0


def status_command(
    folder: Path | None, *, as_json: bool = False, metrics_port: int = METRICS_PORT
) -> None:
    """Say how a run goes; exit code 1 when something is wrong or cannot be asked."""
    console = Console(highlight=False, markup=False)
    known = _where(folder)
    if known is None:
        assert folder is not None
        _tell_end(ended(folder), console, as_json=as_json)
        return
    view = make_view(asyncio.run(take_reading(known, folder, metrics_port=metrics_port)))
    found = problems(view)
    if as_json:
        sys.stdout.write(json.dumps(_plain(as_values(view, found)), indent=2) + "\n")
    else:
        console.print(screen(view, found, width=console.width))
    if found:
        raise SystemExit(1)


def as_values(view: View, found: list[str]) -> dict[str, Any]:
    """One JSON object: the figures, and what is wrong in words."""
    paces = {"steps_per_hour": view.steps_per_hour, "eta_s": view.eta_s}
    return {"healthy": not found, "problems": found, **paces, **asdict(view)}


def _plain(value: Any) -> Any:
    """JSON has no word for what is not finite: null."""
    match value:
        case dict():
            return {key: _plain(x) for key, x in value.items()}
        case list() | tuple():
            return [_plain(x) for x in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def top_command(folder: Path | None, *, metrics_port: int = METRICS_PORT) -> None:
    """Show how a run goes until q, Ctrl-C or the run's end.

    Raises:
        BadParameter: this is no terminal.
    """
    console = Console(highlight=False, markup=False)
    if not (console.is_terminal and sys.stdin.isatty()):
        raise typer.BadParameter("this is no terminal; rlsd status prints the same once")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_top(folder, metrics_port, console))
    if folder is not None and _where(folder) is None:
        _tell_end(ended(folder), console)


async def _top(folder: Path | None, metrics_port: int, console: Console) -> None:
    leaving = asyncio.Event()
    readings: deque[Reading] = deque()
    with _keys(leaving), Live(console=console, screen=True, auto_refresh=False) as live:
        live.update("asking the services", refresh=True)
        while not leaving.is_set() and (known := _where(folder)) is not None:
            now = await take_reading(known, folder, metrics_port=metrics_port)
            while readings and readings[0].at_s < now.at_s - _SPAN_S:
                readings.popleft()
            view = make_view(now, readings[0] if readings else None)
            readings.append(now)
            page = screen(view, problems(view), width=console.width)
            live.update(page, refresh=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(leaving.wait(), _EVERY_S)


@contextlib.contextmanager
def _keys(leaving: asyncio.Event) -> Iterator[None]:
    """Keys are read as they are pressed: q leaves."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()

    def read() -> None:
        if {"q", "Q", "\x04", ""} & set(os.read(descriptor, 64).decode(errors="replace") or [""]):
            leaving.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _where(folder: Path | None) -> RunAddresses | None:
    """Where to ask, or None when nothing runs the folder's run."""
    return from_environment() if folder is None else RunAddresses.read(folder)


def _tell_end(end: Ended, console: Console, *, as_json: bool = False) -> None:
    """How it ended; exit code 1 when the account is off."""
    if as_json:
        sys.stdout.write(json.dumps(end.summary, indent=2) + "\n")
    else:
        for line in end_lines(end):
            console.print(line, soft_wrap=True)
    if not end.is_sound:
        raise SystemExit(1)


def end_lines(end: Ended) -> list[str]:
    """What a run that has ended came to."""
    summary, outcomes = end.summary, end.summary["outcomes"]
    accuracy = summary["held_out_accuracy"]
    lines = [end.words]
    if accuracy["start"] is not None:
        lines.append(f"held-out accuracy {accuracy['start']:.1%} → {accuracy['end']:.1%}")
    rejected, failed = sum(outcomes["rejected"].values()), sum(outcomes["failed"].values())
    lines.append(
        f"{outcomes['admitted']} groups admitted = {outcomes['trained']} trained + {rejected} "
        f"rejected + {failed} failed + {outcomes['in_flight']} in flight "
        f"(residual {summary['identity_residual']}, trained twice {summary['trained_twice']})"
    )
    return lines
