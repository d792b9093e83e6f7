"""Seeded runs that have one possible end, whatever dies on the way.

Generation is seeded, each group is generated and scored alone and the run is on-policy, so an
undisturbed run ends in the same weights to the last bit every time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from rlsd.config import RunConfig
from tests.chaos.account import Account, audit, published_sha256
from tests.chaos.system import Exit, Supervisor, System, chain_run, has_ended, supervised, system

SETTINGS = (
    "run.groups_per_step=4",
    "run.abandoned_after_s=1",
    'method.name="rlsd"',
    "rollout.group_size=32",  # with fewer, whole steps have groups without variance alone
    "rollout.max_batch=32",
    "teacher.max_groups=1",
    "learner.checkpoint_every=3",
    "learner.stage_timeout_s=60",
)
INSTANCES = {"rollout": 1, "verifier": 1, "teacher": 1}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that has done its steps."""

    account: Account
    sha256: str
    exits: list[Exit]


def train(
    folder: Path,
    *settings: str,
    instances: dict[str, int] = INSTANCES,
    environment: Callable[[str, Path], dict[str, str]] = lambda _, __: {},
    arrange: Callable[[System], System] = lambda parts: parts,
    disturb: Callable[[RunConfig, Supervisor], Awaitable[None]] | None = None,
    timeout_s: float = 240.0,
) -> Ended:
    """Run to the last step.

    Args:
        environment: more variables, by the child's name and the run's folder.
        arrange: changes the processes before they are started.
        disturb: what happens meanwhile; the run goes on after it.
    """
    config, path = chain_run(folder, *SETTINGS, *settings)
    parts = system(
        config, path, instances=instances, environment=lambda name: environment(name, folder)
    )
    parts = arrange(parts)

    async def finish() -> Ended:
        async with supervised(parts.children, is_finished=has_ended(config)) as supervisor:
            async with asyncio.timeout(timeout_s):
                if disturb is not None:
                    await disturb(config, supervisor)
                await supervisor.finished.wait()
        return ended(config, supervisor)

    return asyncio.run(finish())


def ended(config: RunConfig, supervisor: Supervisor) -> Ended:
    """What a finished run left."""
    return Ended(
        account=audit(config),
        sha256=published_sha256(config, config.run.steps),
        exits=supervisor.exits,
    )


def assert_equal_end(run: Ended, undisturbed: Ended) -> None:
    """Nothing lost, nothing twice, nothing given up, and the very same weights."""
    assert (run.account.lost, run.account.trained_twice, run.account.residual) == (0, 0, 0)
    assert (run.account.faults, run.account.failed) == ([], {})
    assert run.sha256 == undisturbed.sha256
