"""`python -m tests.chaos.run`: kill everything at random, then count what became of all.

Two phases: faults, then none until the run has ended by itself. Then the audit, an offline replay
of the log, and the control, which is the usual protocol under the same killer. The last line of
the output is one JSON object; the exit code is 1 when something in it is not as it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rlsd.config import RunConfig, load
from tests.chaos.account import (
    Account,
    audit,
    debris,
    re_executions,
    replay_is_identical,
)
from tests.chaos.control import control
from tests.chaos.killer import Killer, Pace, Strike
from tests.chaos.recovery import Recoveries
from tests.chaos.system import (
    Supervisor,
    System,
    chain_run,
    has_ended,
    leftover_processes,
    num_logged,
    supervised,
    system,
    until,
)

SERVICES = ("rollout", "verifier", "teacher", "learner", "redis")
_ENDLESS = 1_000_000
_STEPS_AFTER = 3
"""Steps without faults at the end, so that the run ends by itself."""
_CHECKPOINT_EVERY = 5
_FIRST_STEP_S = 120.0
_END_S = 300.0


def main() -> None:
    """Parse, run, print."""
    arguments = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="rlsd-chaos-") as folder:
        result = asyncio.run(chaos(arguments, Path(arguments.folder or folder)))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    wrong = problems(result, kills=arguments.kills)
    for problem in wrong:
        _say(f"WRONG: {problem}")
    _say(json.dumps(result))
    raise SystemExit(bool(wrong))


def problems(result: dict[str, Any], *, kills: int) -> list[str]:
    """What is not as it should be, in words."""
    by_service = result["kills_by_service"]
    control_ = result["control"]
    claims = {
        "not all kills hit": result["kills"] >= kills,
        "a service was spared": all(by_service.get(s, 0) >= kills // 10 for s in SERVICES),
        "the run stood still during the faults": result["steps_in_fault_phase"] >= kills // 2,
        "trajectories are lost": result["lost"] == 0,
        "trajectories are trained twice": result["trained_twice"] == 0,
        "the account does not close": result["residual"] == 0,
        "groups failed": result["failed"] == {},
        f"faults: {result['faults']}": result["faults"] == [],
        "the replay ends in other weights": result["replay_identical"],
        "too many steps executed again": result["re_executed_steps_max"] <= _CHECKPOINT_EVERY,
        "processes are left behind": result["leftover_processes"] == [],
        "the control loses nothing: this harness shows nothing": control_["lost"] > 0,
        "the control repeats nothing: this harness shows nothing": control_["trained_twice"] > 0,
    }
    return [problem for problem, holds in claims.items() if not holds]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--kills", type=int, default=21, help="SIGKILLs; other faults come on top")
    parser.add_argument("--trajectories", type=int, default=0, help="at least, before faults end")
    parser.add_argument("--groups", type=int, default=16, help="groups a step")
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--interval", type=float, default=5.0, help="mean seconds between faults")
    parser.add_argument("--max-staleness", type=int, default=0)
    parser.add_argument(
        "--apart",
        action="store_true",
        help="one process a service, SIGKILLs alone, each after the last was made up for",
    )
    parser.add_argument("--method", default="rlsd")
    parser.add_argument("--folder", type=Path, help="where the run stays for inspection")
    parser.add_argument("--out", type=Path, help="write the result there too")
    return parser


async def chaos(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The faults, the audit, the replay, the control."""
    config, path = _prepare(arguments, folder)
    several = 1 if arguments.apart else 2
    instances = {"rollout": several, "verifier": 1, "teacher": several}
    parts = system(config, path, instances=instances)
    found = await _under_fire(config, parts, arguments)
    config = load(path, [f"run.steps={found['steps']}"])
    account = audit(config)
    _say(f"audit: {account}")
    is_identical = await asyncio.to_thread(replay_is_identical, path)
    usual = await control(folder / "control", kills=arguments.kills, seed=arguments.seed)
    return {
        **found,
        **_of_account(account),
        "replay_identical": is_identical,
        "re_executed_steps_max": max(re_executions(config.run_dir / "logs" / "learner.log")),
        "leftover_processes": leftover_processes(parts.redis_url),
        "debris": [str(p.relative_to(config.run_dir)) for p in debris(config.run_dir)],
        "control": asdict(usual),
        "settings": {k: v for k, v in vars(arguments).items() if k not in ("folder", "out")},
        "cores": os.cpu_count(),
    }


def _prepare(arguments: argparse.Namespace, folder: Path) -> tuple[RunConfig, Path]:
    """A run that goes on until it is told to end."""
    batch = arguments.groups * arguments.group_size
    return chain_run(
        folder,
        f"run.seed={arguments.seed}",
        f"run.steps={_ENDLESS}",
        f"run.groups_per_step={arguments.groups}",
        f"run.max_staleness={arguments.max_staleness}",
        "run.abandoned_after_s=1.5",
        f'method.name="{arguments.method}"',
        f"rollout.group_size={arguments.group_size}",
        f"rollout.max_batch={max(arguments.group_size, batch // 2)}",
        f"learner.checkpoint_every={_CHECKPOINT_EVERY}",
        "learner.stage_timeout_s=120",
    )


async def _under_fire(
    config: RunConfig, parts: System, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Both phases; what can only be seen while it runs."""
    started = time.monotonic()
    async with (
        supervised(parts.children, is_finished=has_ended(config)) as supervisor,
        asyncio.TaskGroup() as tasks,
    ):
        recoveries = Recoveries(supervisor, parts.metrics, tasks)

        def on_strike(strike: Strike) -> None:
            recoveries.watch(strike)
            at = f"{time.monotonic() - started:7.1f} s  step {num_logged(config):3}"
            _say(f"{at}  {strike.fault:4} {strike.name}")

        def is_made_up_for(killer: Killer) -> bool:
            logged = [p.stat().st_mtime for p in (config.run_dir / "batches").glob("[0-9]*.batch")]
            steps = sum(at > killer.strikes[-1].at for at in logged) if killer.strikes else 2
            return steps >= 2 and recoveries.is_complete

        await until(lambda: num_logged(config) >= 1, timeout_s=_FIRST_STEP_S)
        pace = Pace(interval_s=arguments.interval)
        if arguments.apart:
            pace = replace(pace, together=0.0, gentle=0.0)
        killer = Killer(
            supervisor,
            pace,
            seed=arguments.seed,
            on_strike=on_strike,
            may_strike=lambda: not arguments.apart or is_made_up_for(killer),
        )
        before = num_logged(config)
        due = -(-arguments.trajectories // (arguments.groups * arguments.group_size))
        await killer.run(arguments.kills, until=lambda: num_logged(config) >= due)
        steps_in_fault_phase = num_logged(config) - before
        await _end(config, supervisor)
        recoveries.end()
    return {
        "kills": killer.kills.total(),
        "kills_by_service": dict(killer.kills),
        "other_faults": len(killer.strikes) - killer.kills.total(),
        "steps": num_logged(config),
        "steps_in_fault_phase": steps_in_fault_phase,
        "recovery_s": recoveries.seconds(killer.strikes, config.run_dir / "batches"),
        "recoveries_cut_short": recoveries.cut_short,
        "ended_by_themselves": dict(supervisor.errors()),
        "duration_s": round(time.monotonic() - started, 1),
    }


async def _end(config: RunConfig, supervisor: Supervisor) -> None:
    """Let the learner stop in order and train a last few steps; it ends by itself."""
    target = num_logged(config) + _STEPS_AFTER
    learner = supervisor.children["learner"]
    learner.command = [*learner.command, "--set", f"run.steps={target}"]
    supervisor.signal("learner", signal.SIGTERM)
    _say(f"no more faults; the run ends after step {target}")
    async with asyncio.timeout(_END_S):
        await supervisor.finished.wait()


def _of_account(account: Account) -> dict[str, Any]:
    found = asdict(account)
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
