"""The strongest sandbox that this machine has, proved by its self-test, or a refusal."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlsd.errors import IsolationError
from services.verifier import metrics
from services.verifier.sandbox.bounding import bounded
from services.verifier.sandbox.client import Sandbox
from services.verifier.sandbox.ending import SandboxError
from services.verifier.sandbox.proof import ProvenSandbox, proven
from services.verifier.sandbox.selftest import holes, probe_of
from services.verifier.sandbox.tier import Tier
from services.verifier.sandbox.wasm.component import find_component

TIERS: tuple[Tier, ...] = tuple(Tier)
"""What is tried, from the strongest on."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sandbox that has passed its self-test."""

    sandbox: ProvenSandbox
    isolation: str
    """Tier and policy, as every verdict carries it."""
    memory: str
    """How the memory of a run is bounded, and what the tier has or lacks here, in words."""
    passed_over: str
    """Why it is none of the stronger tiers; empty for the strongest."""


@contextlib.asynccontextmanager
async def open_strongest(
    jobs: Sequence[str], *, minimum: str, max_runs: int
) -> AsyncIterator[Chosen]:
    """The strongest tier that passes.

    Raises:
        IsolationError: none from `minimum` upward does; with what each let through.
    """
    refused = []
    for tier in TIERS:
        if not tier.is_at_least(minimum):
            continue
        try:
            sandbox = await _opened(tier, (probe_of(tier), *jobs), max_runs)
        except SandboxError as error:
            refused.append(f"{tier}: {error}")
            continue
        try:
            found = await holes(sandbox)
        except SandboxError as error:
            found = [str(error)]
        if not found:
            async with bounded(sandbox) as memory, proven(sandbox) as kept:
                isolation = f"{tier}/{policy(sandbox, memory)}"
                metrics.ISOLATION.labels(*isolation.split("/")).set_function(
                    lambda: float(not kept.lacks)
                )
                metrics.show_sandbox(tier, sandbox.place())
                words = f"{memory}, {sandbox.remark}".removesuffix(", ")
                yield Chosen(kept, isolation, words, " | ".join(refused))
            return
        await sandbox.aclose()
        refused.append(f"{tier}: {'; '.join(found)}")
    raise IsolationError(
        f"no sandbox of verifier.min_isolation {minimum} here ({' | '.join(refused)});"
        f" allow more on this machine{_weaker(minimum)}, or leave `code` out of verifier.kinds"
    )


async def _opened(tier: Tier, jobs: Sequence[str], max_runs: int) -> Sandbox:
    """A sandbox that is started; raises SandboxError."""
    component = ""
    if tier is Tier.T3:
        component = str(await find_component(jobs))
    sandbox = Sandbox(tier, jobs, max_runs=max_runs, component=component)
    await sandbox.start()
    return sandbox


def _weaker(minimum: str) -> str:
    """The remedy that needs nothing of the machine, unless it has been tried."""
    return "" if minimum == Tier.T3 else f", or accept verifier.min_isolation {Tier.T3}"


def policy(sandbox: Sandbox, memory: str) -> str:
    """A name for all that confines a run: the text of this package, the kernel's filters in it.

    In tier 3 also the component, by its key, and what confines the process that holds it.
    """
    tier = sandbox.tier
    digest = hashlib.sha256(f"{tier} {memory.partition(':')[0]} {sandbox.remark}".encode())
    here = Path(__file__).parent
    paths = sorted(here.glob("*.py"))
    if tier is Tier.T3:
        digest.update(Path(sandbox.component).name.encode())
        paths += sorted(here.glob("wasm/*.py"))
    for path in paths:
        digest.update(json.dumps([path.name, path.read_text()]).encode())
    return digest.hexdigest()[:8]
