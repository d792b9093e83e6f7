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
from rlsd.data.overlap import overlap
from rlsd.data.sources import Dataset, load_prompts
from rlsd.errors import ConfigError
from rlsd.images.checking import check_images
from rlsd.local.system import Watcher, prepare_run_folder, run_system
from rlsd.report.run import write_run_report


def run_command(path: Path, overrides: list[str], *, resume: bool) -> None:
    """Run, then say what came out and where it lies."""
    console = Console(highlight=False)
    config = with_run_id(load(path, overrides), path, overrides, resume=resume)
    for line in check_inputs(config):
        console.print(escape(line))
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


def check_inputs(config: RunConfig) -> list[str]:
    """Refuse now what would only fail once all services are up.

    Returns:
        Lines for people: how many prompts were kept, and what is odd about them.

    Raises:
        ConfigError: no such model, or a dataset that cannot be used.
    """
    if not (Path(config.model.path) / "config.json").is_file() and not _is_hub_name(config):
        raise ConfigError(
            f"model.path {config.model.path!r}: no such folder with a config.json; "
            "give one, or the name of a model on the hub (owner/name)"
        )
    train = _load(config, config.data.train, limit=config.data.limit)
    check_images(config, train.prompts)
    lines = [train.summary]
    if config.data.held_out is not None:
        held_out = _load(config, config.data.held_out, limit=config.evaluation.limit)
        check_images(config, held_out.prompts)
        lines.append(held_out.summary)
        if shared := overlap(train.prompts, held_out.prompts):
            lines.append(f"warning: {shared} held-out prompts are also trained on")
    return lines


def _is_hub_name(config: RunConfig) -> bool:
    owner, separator, name = config.model.path.partition("/")
    is_plain = bool(separator) and owner not in ("", ".", "..", "~") and "/" not in name
    return is_plain and not Path(owner).exists()


def _load(config: RunConfig, source: str, *, limit: int | None) -> Dataset:
    return load_prompts(
        source, default_verifier=config.data.verifier, shape=config.data.shape, limit=limit
    )


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
