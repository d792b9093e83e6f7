"""`rlsd compare`: arms × seeds at matched steps, each a full run through the services."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rlsd.cli.run import check_inputs
from rlsd.config import RunConfig, load
from rlsd.errors import ConfigError, ServiceError
from rlsd.local.system import Status, Watcher, prepare_run_folder, run_system
from rlsd.report.compare import write_compare_report

_CONTROLS = {
    "permuted": ["method.permute=true"],
    "other-reference": ['teacher.reference="other"'],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What to compare."""

    methods: Sequence[str]
    seeds: int
    set_for: Sequence[str]
    parallel: int
    out: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to train."""

    name: str
    overrides: tuple[str, ...]


def compare_command(path: Path, overrides: list[str], options: CompareOptions) -> None:
    """Run every arm with every seed, then write results and report."""
    console = Console(highlight=False)
    arms = parse_arms(options.methods, options.set_for)
    out = options.out or Path("runs") / f"compare-{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    planned = [
        (arm, seed, _configure(path, overrides, arm, seed, out))
        for seed in range(options.seeds)
        for arm in arms
    ]
    check_inputs(planned[0][2])
    console.print(f"{len(arms)} arms × {options.seeds} seeds into {out}")
    asyncio.run(_run_all([c for *_, c in planned], options.parallel, console))
    results = {
        "task": path.parent.name or path.stem,
        "steps": planned[0][2].run.steps,
        "seeds": list(range(options.seeds)),
        "arms": [_result(arm, seed, config) for arm, seed, config in planned],
    }
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    console.print(f"report: {write_compare_report(out / 'results.json')}")


def parse_arms(methods: Sequence[str], set_for: Sequence[str]) -> list[Arm]:
    """Arms from `[NAME=]METHOD[:CONTROL]` and `NAME:section.key=value`.

    Raises:
        ConfigError: an unknown control, or an override for an arm that is not there.
    """
    arms: dict[str, list[str]] = {}
    for text in methods:
        label, _, what = text.strip().rpartition("=")
        method, _, control = what.partition(":")
        if control and control not in _CONTROLS:
            raise ConfigError(f"--methods {text!r}: controls are {', '.join(_CONTROLS)}")
        arms[label or what] = [f'method.name="{method}"', *_CONTROLS.get(control, [])]
    for text in set_for:
        name = next((n for n in sorted(arms, key=len)[::-1] if text.startswith(f"{n}:")), None)
        if name is None:
            raise ConfigError(f"--set-for {text!r}: write ARM:section.key=value with a known arm")
        arms[name].append(text.removeprefix(f"{name}:"))
    return [Arm(name=name, overrides=tuple(found)) for name, found in arms.items()]


def _configure(path: Path, overrides: list[str], arm: Arm, seed: int, out: Path) -> RunConfig:
    run_id = f"{arm.name.replace(':', '-').replace('+', '-and-')}-seed{seed}"
    fixed = [f'run.id="{run_id}"', f"run.seed={seed}", f'run.dir="{out}"']
    return load(path, [*overrides, *arm.overrides, *fixed])


async def _run_all(configs: Sequence[RunConfig], parallel: int, console: Console) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    slots = asyncio.Semaphore(parallel)
    done = 0

    async def one(config: RunConfig) -> None:
        nonlocal done
        async with slots:
            if not stopping.is_set() and not _is_finished(config):
                await _run_one(config, stopping)
            done += 1
            if _is_finished(config):
                accuracy = _summary(config)["held_out_accuracy"]
                console.print(
                    f"[{done}/{len(configs)}] {config.run.id}: "
                    f"{accuracy['start']:.1%} → {accuracy['end']:.1%}",
                    markup=False,
                )

    try:
        async with asyncio.TaskGroup() as tasks:
            for config in configs:
                tasks.create_task(one(config))
    except* ServiceError as errors:
        raise errors.exceptions[0] from None
    if stopping.is_set():
        raise ServiceError("compare: stopped; the same command with --out goes on from here")


async def _run_one(config: RunConfig, stopping: asyncio.Event) -> None:
    """One run; one that was begun before is continued."""
    has_begun = (config.run_dir / "weights").exists()
    resolved = prepare_run_folder(config, resume=has_begun)
    watcher = Watcher(on_event=_ignore_event, on_status=_ignore_status)
    await run_system(config, resolved, stopping=stopping, watcher=watcher)


def _ignore_event(text: str) -> None:
    """Twenty runs would speak at once."""


def _ignore_status(status: Status) -> None:
    """The same."""


def _is_finished(config: RunConfig) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return int(_summary(config)["steps"]) >= config.run.steps
    return False


def _summary(config: RunConfig) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((config.run_dir / "summary.json").read_text())
    return found


def _result(arm: Arm, seed: int, config: RunConfig) -> dict[str, Any]:
    def lines(name: str) -> list[dict[str, Any]]:
        return [json.loads(x) for x in (config.run_dir / name).read_text().splitlines()]

    summary = _summary(config)
    return {
        "name": arm.name,
        "seed": seed,
        "run_dir": str(config.run_dir),
        "settings": {o.partition("=")[0]: o.partition("=")[2] for o in arm.overrides},
        "evaluations": lines("evaluations.jsonl"),
        "outcomes": summary["outcomes"],
        "duration_s": summary["duration_s"],
        "metrics_last": lines("metrics.jsonl")[-1],
    }
