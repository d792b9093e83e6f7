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
from services.verifier.sandbox.client import Sandbox, SandboxError
from services.verifier.sandbox.selftest import PROBE, holes
from services.verifier.sandbox.tier import Tier


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sandbox that has passed its self-test."""

    sandbox: Sandbox
    isolation: str
    """Tier and policy, as every verdict carries it."""


@contextlib.asynccontextmanager
async def open_strongest(
    jobs: Sequence[str], *, minimum: str, max_runs: int
) -> AsyncIterator[Chosen]:
    """The strongest tier that passes.

    Raises:
        IsolationError: none from `minimum` upward does; with what each let through.
    """
    refused = []
    for tier in Tier:
        if not tier.is_at_least(minimum):
            continue
        sandbox = Sandbox(tier, (PROBE, *jobs), max_runs=max_runs)
        try:
            await sandbox.start()
            found = await holes(sandbox)
        except SandboxError as error:
            found = [str(error)]
        if not found:
            isolation = f"{tier}/{policy(tier)}"
            metrics.ISOLATION.labels(*isolation.split("/")).set(1)
            try:
                yield Chosen(sandbox, isolation)
            finally:
                await sandbox.aclose()
            return
        await sandbox.aclose()
        refused.append(f"{tier}: {'; '.join(found)}")
    raise IsolationError(
        f"no sandbox of verifier.min_isolation {minimum} here ({' | '.join(refused)});"
        " allow more on this machine, or leave `code` out of verifier.kinds"
    )


def policy(tier: Tier) -> str:
    """A name for all that confines a run: the text of this package, the kernel's filters in it."""
    digest = hashlib.sha256(tier.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(json.dumps([path.name, path.read_text()]).encode())
    return digest.hexdigest()[:8]
