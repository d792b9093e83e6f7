"""One core behind gRPC, HTTP and the stream worker: verdicts, never an exception and never a NaN.

| waits for | bound | unblocked by |
|---|---|---|
| a free check | `max_concurrency` | the end of another check |
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rlsd.config import VerifierSection
from rlsd.errors import VerifierError
from rlsd.trajectory import Group, Trajectory, Verdict, VerdictOutcome, VerifierSpec
from services.verifier import metrics
from services.verifier.checks.check import Check, Params, read_params
from services.verifier.checks.choice import ChoiceCheck, ChoiceParams
from services.verifier.checks.exact import ExactCheck, ExactParams
from services.verifier.checks.math import MathCheck, MathParams
from services.verifier.checks.math_pool import MathPool

_LONGEST_REASON = 500
"""Characters; a reason may quote what a model or a user wrote."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A check with the model of its parameters."""

    check: Check[Any]
    params: type[Params]


class Verifier:
    """Checks completions, at most `max_concurrency` at once."""

    def __init__(self, kinds: Mapping[str, Kind], *, max_concurrency: int) -> None:
        self._kinds = kinds
        self._free = asyncio.Semaphore(max_concurrency)

    async def check(self, spec: VerifierSpec, completion: str, reference: str) -> Verdict:
        """The verdict about one completion; whatever goes wrong is an ERROR or TIMEOUT verdict."""
        async with self._free:
            started = time.monotonic()
            try:
                verdict = _sound(await self._decide(spec, completion, reference))
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
            verdict = await self.check(prompt.verifier, trajectory.text, prompt.reference)
            return replace(trajectory, verdict=verdict)

        async with asyncio.TaskGroup() as tasks:
            pending = [tasks.create_task(verified(t)) for t in group.trajectories]
        return replace(group, trajectories=tuple(task.result() for task in pending))

    async def _decide(self, spec: VerifierSpec, completion: str, reference: str) -> Verdict:
        kind = self._kinds.get(spec.kind)
        if kind is None:
            known = ", ".join(sorted(self._kinds))
            raise VerifierError(f"unknown verifier kind {spec.kind[:40]!r}; known: {known}")
        params = read_params(spec.kind, kind.params, spec.params)
        return await kind.check(completion, reference, params)


@contextlib.asynccontextmanager
async def open_verifier(section: VerifierSection) -> AsyncIterator[Verifier]:
    """A verifier of all kinds; raises VerifierError when the maths children do not start."""
    async with MathPool(num_children=section.math_workers, timeout_s=section.timeout_s) as pool:
        kinds = {
            "choice": Kind(ChoiceCheck(), ChoiceParams),
            "exact": Kind(ExactCheck(), ExactParams),
            "math": Kind(MathCheck(pool), MathParams),
        }
        yield Verifier(kinds, max_concurrency=section.max_concurrency)


def _sound(verdict: Verdict) -> Verdict:
    """The verdict itself; a reward that no loss may see raises VerifierError."""
    if verdict.is_scored and not (math.isfinite(verdict.reward) and 0 <= verdict.reward <= 1):
        raise VerifierError(f"reward {verdict.reward} is not within 0 and 1")
    return verdict


def _plain(reason: str) -> str:
    """One short line that every wire can carry (JSON may hold half a surrogate pair)."""
    line = " ".join(reason.split())[:_LONGEST_REASON]
    return line.encode("utf-8", "replace").decode("utf-8")
