"""A sandbox that goes on proving itself: now and then, when its server was replaced, when in doubt.

| waits for | bound | unblocked by |
|---|---|---|
| a run, while a new fork server or a hole that was found is tested | `_PATIENCE_S` | that test |

A hole that is found twice, or a self-test that cannot be had, ends all runs: whoever asks for one
is told so until a later self-test finds nothing. One that a run of the self-test was killed for is
repeated, since that says nothing of the box.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence

from rlsd.errors import VerifierError
from services.verifier import metrics
from services.verifier.sandbox.client import Places, Sandbox
from services.verifier.sandbox.ending import (
    End,
    Ended,
    Limits,
    RunResult,
    SandboxError,
    result_of,
)
from services.verifier.sandbox.selftest import holes
from services.verifier.sandbox.tier import Tier

_LOG = logging.getLogger(__name__)
PROVE_EVERY_S = 300.0
"""A self-test costs about 0.1 s of a processor."""
_AGAIN_S = 10.0
"""Between self-tests that something called for: a failed one, a policy violation."""
_PATIENCE_S = 60.0
_PAUSE_S = 0.05
_CONFIRMED = 2
"""Times that a hole is seen."""


class Unproven(VerifierError):
    """The box failed its self-test: nothing that runs in it counts."""


class ProvenSandbox:
    """Runs jobs in a sandbox as long as its self-test passes."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Take over a sandbox that has just passed its self-test."""
        self._sandbox = sandbox
        self._proven = sandbox.generation
        self._is_in_doubt = False
        self._proving = asyncio.Lock()
        self._called_for = asyncio.Event()
        self.lacks = ""
        """Why no run can be had; empty while all is well."""

    @property
    def tier(self) -> Tier:
        """How strong it is."""
        return self._sandbox.tier

    def place(self) -> Places:
        """A place to run, as a context."""
        return self._sandbox.place()

    async def run_beside(self, job: str, descriptors: Sequence[int], limits: Limits) -> Ended:
        """Run a job to its end, by whoever has a place.

        Raises:
            SandboxError: the run could not be had, or the fork server died in the middle of it.
            Unproven: the self-test failed.
        """
        await self._be_sure()
        ended = await self._counted(job, descriptors, limits)
        if ended.end is End.VIOLATION:
            self._called_for.set()
        if self._is_in_doubt or self.lacks:
            await self._be_sure()
        return ended

    async def _counted(self, job: str, descriptors: Sequence[int], limits: Limits) -> Ended:
        """Its end; one that was called off is not counted, having none."""
        try:
            ended = await self._sandbox.attempt(job, descriptors, limits)
        except SandboxError:
            metrics.RUNS.labels(self.tier, RunResult.ERROR).inc()
            raise
        metrics.RUNS.labels(self.tier, result_of(ended, descriptors, limits)).inc()
        metrics.RUN_DURATION.labels(self.tier).observe(ended.wall_s)
        return ended

    async def watch(self) -> None:
        """Prove it now and then; never returns."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S if self.lacks else PROVE_EVERY_S):
                    await self._called_for.wait()
            async with self._proving:
                await self._prove()
            self._called_for.clear()
            await asyncio.sleep(min(_AGAIN_S, PROVE_EVERY_S))

    def watch_ended(self, watching: asyncio.Task[None]) -> None:
        """Without a watch nothing is proven: said, should it ever end by itself."""
        if not watching.cancelled():
            self.lacks = f"the sandbox is not tested any more: {watching.exception()!r}"

    async def _be_sure(self) -> None:
        if not self._is_sure and not self.lacks:
            async with self._proving:
                if not self._is_sure and not self.lacks:
                    await self._prove()
        if self.lacks:
            raise Unproven(self.lacks)

    @property
    def _is_sure(self) -> bool:
        sandbox = self._sandbox
        is_proven = sandbox.is_alive and self._proven == sandbox.generation
        return is_proven and not self._is_in_doubt

    async def _prove(self) -> None:
        """Test until it is proven or condemned."""
        end = time.monotonic() + _PATIENCE_S
        num_seen = 0
        while True:
            found, is_hole = await self._tested()
            if not found:
                break
            self._is_in_doubt = self._is_in_doubt or is_hole
            num_seen += is_hole
            if num_seen >= _CONFIRMED or time.monotonic() >= end:
                break
            await asyncio.sleep(_PAUSE_S)
        if found and not self.lacks:
            _LOG.error("no more verdicts about code: %s", found)
        elif self.lacks and not found:
            _LOG.warning("verdicts about code again: the self-test finds nothing any more")
        self.lacks = f"the sandbox failed its self-test: {found}" if found else ""
        self._is_in_doubt = False

    async def _tested(self) -> tuple[str, bool]:
        """What is wrong, and whether that is a hole rather than no test at all."""
        try:
            await self._sandbox.revive()
            generation = self._sandbox.generation
            found = await holes(self._sandbox)
        except (SandboxError, OSError) as error:
            return str(error), False
        if not found and generation != self._sandbox.generation:
            return "the sandbox died in the middle of it", False
        if not found:
            self._proven = generation
        return "; ".join(found), True


@contextlib.asynccontextmanager
async def proven(sandbox: Sandbox) -> AsyncIterator[ProvenSandbox]:
    """A sandbox that has just passed its self-test, watched from now on."""
    kept = ProvenSandbox(sandbox)
    watching = asyncio.create_task(kept.watch())
    watching.add_done_callback(kept.watch_ended)
    try:
        yield kept
    finally:
        watching.cancel()
        await asyncio.wait([watching])
