"""One core behind gRPC, HTTP and the stream worker: verdicts, never an exception and never a NaN.

| waits for | bound | unblocked by |
|---|---|---|
| a free check | `max_concurrency` | the end of another check |

A kind that bounds itself is not counted: its checks may wait out an outage that concerns no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from rlsd.config import VerifierSection
from rlsd.errors import VerifierError
from rlsd.telemetry.activity import Obstacle
from rlsd.trajectory import Group, Trajectory, Verdict, VerdictOutcome, VerifierSpec
from services.verifier import metrics
from services.verifier.checks.check import Kind, Origin, Params, Setup, Task, read_params
from services.verifier.kinds import OPENERS, wanted

_LONGEST_REASON = 500
"""Characters; a reason may quote what a model or a user wrote."""


class Verifier:
    """Checks completions, at most `max_concurrency` at once."""

    def __init__(self, kinds: Mapping[str, Kind], *, max_concurrency: int) -> None:
        self._kinds = kinds
        self._free = asyncio.Semaphore(max_concurrency)

    @property
    def isolation(self) -> str:
        """Tier and policy of the sandbox for code; empty when no kind needs one."""
        return "; ".join(kind.isolation for kind in self._kinds.values() if kind.isolation)

    @property
    def remark(self) -> str:
        """What else to say of that sandbox."""
        return "; ".join(kind.remark for kind in self._kinds.values() if kind.remark)

    def lacks(self) -> str:
        """Why some kind has no verdicts any more; empty while all have."""
        found = ((name, kind.lacks()) for name, kind in self._kinds.items())
        return "; ".join(f"{name}: {why}" for name, why in found if why)

    def obstacle(self) -> Obstacle | None:
        """What checks wait for outside this service; from any thread."""
        return next((o for kind in self._kinds.values() if (o := kind.obstacle())), None)

    def doubts(self) -> str:
        """Which outside verifiers are not believed and why; empty when all are."""
        return "; ".join(words for kind in self._kinds.values() if (words := kind.doubts()))

    async def check(
        self, spec: VerifierSpec, completion: str, reference: str, *, origin: Origin | None = None
    ) -> Verdict:
        """The verdict about one completion; whatever goes wrong is an ERROR or TIMEOUT verdict."""
        async with self._slot(spec.kind):
            started = time.monotonic()
            try:
                verdict = _sound(await self._decide(spec, completion, reference, origin))
            except VerifierError as error:
                verdict = Verdict(outcome=VerdictOutcome.ERROR, reason=str(error))
            verdict = replace(
                verdict, reason=_plain(verdict.reason), duration_s=time.monotonic() - started
            )
        metrics.observe(spec.kind if spec.kind in self._kinds else metrics.UNKNOWN, verdict)
        return verdict

    async def verify_group(self, group: Group) -> Group:
        """The group with the verdict of each trajectory filled in."""
        prompt = group.prompt

        async def verified(trajectory: Trajectory) -> Trajectory:
            origin = Origin(
                run_id=group.run_id,
                group_id=group.group_id,
                trajectory_id=f"{group.run_id}/{group.group_id}/{trajectory.member}",
                policy_version=trajectory.max_policy_version,
                messages=prompt.messages,
            )
            verdict = await self.check(
                prompt.verifier, trajectory.text, prompt.reference, origin=origin
            )
            return replace(trajectory, verdict=verdict)

        async with asyncio.TaskGroup() as tasks:
            pending = [tasks.create_task(verified(t)) for t in group.trajectories]
        return replace(group, trajectories=tuple(task.result() for task in pending))

    def _slot(self, name: str) -> contextlib.AbstractAsyncContextManager[None]:
        kind = self._kinds.get(name)
        return contextlib.nullcontext() if kind and kind.is_bounded else self._free

    async def _decide(
        self, spec: VerifierSpec, completion: str, reference: str, origin: Origin | None
    ) -> Verdict:
        kind, params = find(self._kinds, spec.kind, spec.params)
        task = Task(reference=reference, params=params, origin=origin or Origin())
        return await kind.check(task, completion)


@contextlib.asynccontextmanager
async def open_verifier(section: VerifierSection) -> AsyncIterator[Verifier]:
    """A verifier of the wanted kinds; raises VerifierError when what one needs does not start."""
    kinds: dict[str, Kind] = {}
    setup = Setup(section=section, find=functools.partial(find, kinds))
    async with contextlib.AsyncExitStack() as stack:
        for name in wanted(section):
            kinds[name] = await stack.enter_async_context(OPENERS[name](setup))
        metrics.create_verdicts(kinds)
        yield Verifier(kinds, max_concurrency=section.max_concurrency)


def find(kinds: Mapping[str, Kind], name: str, params: Mapping[str, Any]) -> tuple[Kind, Params]:
    """A kind and its checked parameters; raises VerifierError."""
    kind = kinds.get(name)
    if kind is None:
        known = ", ".join(sorted(kinds))
        raise VerifierError(f"unknown verifier kind {name[:40]!r}; known: {known}")
    return kind, read_params(name, kind.params, params)


def _sound(verdict: Verdict) -> Verdict:
    """The verdict itself; a reward that no loss may see raises VerifierError."""
    if verdict.is_scored and not (math.isfinite(verdict.reward) and 0 <= verdict.reward <= 1):
        raise VerifierError(f"reward {verdict.reward} is not within 0 and 1")
    return verdict


def _plain(reason: str) -> str:
    """One short line that every wire can carry (JSON may hold half a surrogate pair)."""
    line = " ".join(reason.split())[:_LONGEST_REASON]
    return line.encode("utf-8", "replace").decode("utf-8")
