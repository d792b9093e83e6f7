"""`rlsd audit`: whether a run's account and its weights follow from its batch log."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rlsd.audit import Audit, Check, audit
from rlsd.config import RunConfig, load
from rlsd.local.processes import child_environment, service_command


def audit_command(folder: Path, *, replay: bool, from_checkpoint: bool, as_json: bool) -> None:
    """Print what was found; exit code 1 when anything is off, which is named."""
    config = load(folder / "config.json")
    found = audit(folder, config.run.id)
    replayed: dict[str, Any] | None = None
    if replay and "chain" not in found.off:
        with Console(stderr=True).status("training the batch log once more"):
            check, replayed = _replay(folder, config, from_checkpoint=from_checkpoint)
        found = replace(found, checks=(*found.checks, check))
    if as_json:
        Console(highlight=False, markup=False, soft_wrap=True).print(
            json.dumps({**found.as_json(), "replay": replayed})
        )
    else:
        _print(found)
    if found.off:
        raise SystemExit(1)


def _replay(
    folder: Path, config: RunConfig, *, from_checkpoint: bool
) -> tuple[Check, dict[str, Any] | None]:
    """Start the learner's replay on as many ranks as the run had."""
    command = service_command(
        "learner.replay", folder / "config.json", ranks=config.learner.ranks
    ) + (["--from-checkpoint"] if from_checkpoint else [])
    environment = child_environment(config.run.threads)
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if ended.returncode != 0:
        spoken = [x for x in ended.stderr.splitlines() if x.startswith("rlsd replay: ")]
        said = spoken[-1] if spoken else f"replay ended with exit code {ended.returncode}"
        return Check(name="weights", is_ok=False, found=said), None
    replayed = json.loads(ended.stdout.splitlines()[-1])
    return weights_check(replayed), replayed


def weights_check(replayed: dict[str, Any]) -> Check:
    """What a replay says about the published weights."""
    start = f"checkpoint {replayed['from_step']}" if replayed["from_step"] else "the base model"
    steps = f"{replayed['steps']} steps from {start}"
    if replayed["unscored_rows"]:
        found = f"{replayed['unscored_rows']} rows without a scored verdict were trained on"
    elif replayed["is_equal"]:
        found = f"{steps} give version {replayed['version']} to the bit"
        return Check(name="weights", is_ok=True, found=found)
    else:
        found = (
            f"{steps} give other weights than version {replayed['version']}; log-probs on its "
            f"probe differ by {replayed['probe_difference']:.2g} nats (equal bits need the run's "
            "own kind of machine, torch version, ranks and threads)"
        )
    return Check(name="weights", is_ok=False, found=found)


def _print(found: Audit) -> None:
    table = Table("", "what", "found", box=None, pad_edge=False)
    for check in found.checks:
        table.add_row("ok" if check.is_ok else "OFF", check.name, check.found)
    console = Console(highlight=False, markup=False)
    console.print(table)
    verdict = f"off: {', '.join(found.off)}" if found.off else "everything holds"
    console.print(f"run {found.run_id}: {verdict}")
