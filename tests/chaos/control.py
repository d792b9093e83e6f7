"""Runs the usual protocol (`naive.py`) under the killer and counts what became of its numbers."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from rlsd.local.processes import Child, free_ports
from tests.chaos import naive
from tests.chaos.killer import Killer, Pace
from tests.chaos.system import redis_child, supervised

PARTS = ("dispatcher", "rollout-0", "rollout-1", "verifier-0", "verifier-1", "learner")
PACE = Pace(interval_s=0.6, stop_s=1.0)
_PER_KILL = 250
"""Numbers sent for each kill, so that some always pass between two."""
_DRAIN_S = 60.0
_STILL = 6
"""Looks without a change that mean the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlResult:
    """What became of the numbers."""

    kills: int
    trajectories: int
    lost: int
    trained_twice: int
    batches_in_fault_phase: int


async def control(folder: Path, *, kills: int, seed: int) -> ControlResult:
    """The usual protocol under `kills` SIGKILLs, then left alone until nothing moves."""
    total = _PER_KILL * max(kills, 10)
    (port,) = free_ports(1)
    children = [redis_child(port, folder / "redis", keeps_data=True)]
    children += [_part(name, folder, port, total) for name in PARTS]
    async with supervised(children) as supervisor:
        killer = Killer(supervisor, PACE, seed=seed)
        await killer.run(kills)
        trained = len(naive.read(folder / "checkpoint.json", []))
        async with asyncio.timeout(_DRAIN_S):
            left = await _drained(port, folder, total)
    ids = naive.read(folder / "checkpoint.json", [])
    return ControlResult(
        kills=killer.kills.total(),
        trajectories=total,
        lost=total - len({*ids, *left}),
        trained_twice=len(ids) - len(set(ids)),
        batches_in_fault_phase=trained // naive.BATCH,
    )


def _part(name: str, folder: Path, port: int, total: int) -> Child:
    role = name.partition("-")[0]
    arguments = [role, name, str(folder), str(port), str(total)]
    return Child(
        name=name,
        command=[sys.executable, "-m", "tests.chaos.naive", *arguments],
        environment=os.environ,
        log_path=folder / f"{name}.log",
    )


async def _drained(port: int, folder: Path, total: int) -> set[str]:
    """The numbers left in the streams once all are sent and nothing has moved for a while."""
    client: Any = redis.Redis(port=port, decode_responses=True)
    before, still = None, 0
    while still < _STILL:
        await asyncio.sleep(0.5)  # there is no event: it is the absence of all
        try:
            waiting = [client.xrange(s) for s in ("prompts", "rolled", "scored")]
        except redis.ConnectionError:
            continue
        trained = len(naive.read(folder / "checkpoint.json", []))
        now = [naive.read(folder / "cursor.json", 0), trained, *map(len, waiting)]
        still = still + 1 if now == before and now[0] == total else 0
        before = now
    return {fields["id"] for found in waiting for _, fields in found}
