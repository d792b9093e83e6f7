"""`rlsd run`: the whole system on this machine, with one progress display and a report."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from rlsd.cli.display import RunDisplay
from rlsd.config import RunConfig, load
from rlsd.errors import ConfigError
from rlsd.local.system import Watcher, prepare_run_folder, run_system
from rlsd.report.run import write_run_report


def run_command(path: Path, overrides: list[str], *, resume: bool) -> None:
    """Run, then say what came out and where it lies."""
    console = Console(highlight=False)
    config = with_run_id(load(path, overrides), path, overrides, resume=resume)
    check_inputs(config)
    resolved = prepare_run_folder(config, resume=resume)
    title = f"rlsd · {config.method.name} · {config.run.id}"
    with RunDisplay(title, console) as display:
        watcher = Watcher(on_event=display.event, on_status=display.status)
        interrupted = asyncio.run(run_until_signal(config, resolved, watcher))
    _conclude(config, console, interrupted=interrupted, again=path)


async def run_until_signal(config: RunConfig, resolved: Path, watcher: Watcher) -> bool:
    """Run the system; SIGTERM or Ctrl-C stops it in order. Whether one came."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await run_system(config, resolved, stopping=stopping, watcher=watcher)
    return stopping.is_set()


def with_run_id(config: RunConfig, path: Path, overrides: list[str], *, resume: bool) -> RunConfig:
    """A run that was given no id gets one from its file and the time; to resume, it needs one."""
    if "id" in config.run.model_fields_set:
        return config
    if resume:
        found = sorted(config.run.dir.glob(f"{path.stem}-2*"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise ConfigError(f"--resume: no run of {path.name} in {config.run.dir}")
        run_id = found[-1].name
    else:
        run_id = f"{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    return load(path, [*overrides, f'run.id="{run_id}"'])


def check_inputs(config: RunConfig) -> None:
    """Refuse now what would only fail once all services are up."""
    if not Path(config.model.path).exists() and config.model.path.startswith(
        (".", "/", "examples")
    ):
        raise ConfigError(
            f"model.path {config.model.path!r}: no such folder; "
            "give one with config.json and safetensors"
        )
    for key, source in (("train", config.data.train), ("held_out", config.data.held_out)):
        if source and ":" not in source and not Path(source).is_file():
            raise ConfigError(f"data.{key} {source!r}: no such file")


def _conclude(config: RunConfig, console: Console, *, interrupted: bool, again: Path) -> None:
    summary = json.loads((config.run_dir / "summary.json").read_text())
    report = write_run_report(config.run_dir)
    accuracy, outcomes = summary["held_out_accuracy"], summary["outcomes"]
    if interrupted:
        again_with = f"rlsd run {again} --resume --set run.id={config.run.id}"
        console.print(f"stopped at step {summary['steps']}; continue with: {escape(again_with)}")
    if accuracy["start"] is not None:
        console.print(
            f"held-out accuracy [bold]{accuracy['start']:.1%} → {accuracy['end']:.1%}[/bold] "
            f"in {summary['steps']} steps, {summary['duration_s']:.0f} s"
        )
    rejected, failed = sum(outcomes["rejected"].values()), sum(outcomes["failed"].values())
    console.print(
        f"{outcomes['admitted']} groups admitted = {outcomes['trained']} trained + {rejected} "
        f"rejected + {failed} failed + {outcomes['in_flight']} in flight "
        f"(residual {summary['identity_residual']}, trained twice {summary['trained_twice']})"
    )
    console.print(f"report: {escape(str(report))}")
