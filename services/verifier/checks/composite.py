"""`composite`: one reward from several checks.

A part that could not be judged leaves the whole unjudged: there is no partial reward.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlsd.errors import VerifierError
from rlsd.trajectory import Verdict, VerdictOutcome
from services.verifier.checks.check import InvalidTask, Kind, Params, Task, scored

_MOST_PARTS = 16
_DEEPEST = 3
"""Composites within each other."""
_LONGEST_REASON = 120

Find = Callable[[str, Mapping[str, Any]], tuple[Kind, Params]]


class Part(BaseModel):
    """One check of several."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: str
    """Which check; a composite too, at most three within each other."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Its parameters."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Its share of a sum, relative to the others'."""
    reference: str | None = None
    """What it compares with, instead of the task's reference."""


class CompositeParams(Params):
    """The parts and what becomes of their rewards."""

    mode: Literal["weighted_sum", "all_of", "gate_then_score"]
    """The mean by weight; 1 only if all give 1; or the mean of all but the first part, which must
    give 1 itself."""
    parts: list[Part] = Field(min_length=1, max_length=_MOST_PARTS)
    """In the order of their checks: the cheap first."""

    @model_validator(mode="after")
    def _a_gate_leads_somewhere(self) -> CompositeParams:
        if self.mode == "gate_then_score" and len(self.parts) < 2:
            raise ValueError("parts: a gate needs a part behind it; add one or use all_of")
        return self


class CompositeCheck:
    """Asks the checks of the parts."""

    def __init__(self, find: Find) -> None:
        self._find = find

    async def __call__(self, task: Task[CompositeParams], completion: str) -> Verdict:
        """The reward by `mode`; ERROR or TIMEOUT as soon as a needed part gives one.

        Raises:
            InvalidTask: composites nested too deep.
        """
        if _levels(task.params.parts) > _DEEPEST:
            raise InvalidTask(f"params of 'composite': more than {_DEEPEST} within each other")
        match task.params.mode:
            case "all_of":
                return await self._all_of(task, completion)
            case "gate_then_score":
                return await self._gate_then_score(task, completion)
            case "weighted_sum":
                return await self._weighted_sum(task, task.params.parts, completion)

    async def _all_of(self, task: Task[CompositeParams], completion: str) -> Verdict:
        """One after the other: the first that fails decides, so that the rest is not run."""
        verdicts = []
        for part in task.params.parts:
            verdicts.append(await self._verdict(part, task, completion))
            if not _passed(verdicts[-1]):
                break
        return _joined(task.params.parts, verdicts, float(all(map(_passed, verdicts))))

    async def _gate_then_score(self, task: Task[CompositeParams], completion: str) -> Verdict:
        gate, *rest = task.params.parts
        verdict = await self._verdict(gate, task, completion)
        if not _passed(verdict):
            return _joined([gate], [verdict], 0.0)
        whole = await self._weighted_sum(task, rest, completion)
        if not whole.is_scored:
            return whole
        reason = f"{_words(gate, verdict)}; {whole.reason}"
        return replace(whole, reason=reason, isolation=_isolation([verdict, whole]))

    async def _weighted_sum(
        self, task: Task[CompositeParams], parts: Sequence[Part], completion: str
    ) -> Verdict:
        """All at once: each of them is needed."""
        async with asyncio.TaskGroup() as tasks:
            pending = [tasks.create_task(self._verdict(part, task, completion)) for part in parts]
        verdicts = [asked.result() for asked in pending]
        # fsum of the same numbers twice: all parts at 1 give exactly 1.
        gained = math.fsum(p.weight * v.reward for p, v in zip(parts, verdicts, strict=True))
        return _joined(parts, verdicts, min(1.0, gained / math.fsum(p.weight for p in parts)))

    async def _verdict(self, part: Part, task: Task[CompositeParams], completion: str) -> Verdict:
        try:
            kind, params = self._find(part.kind, part.params)
            reference = task.reference if part.reference is None else part.reference
            inner = Task(reference=reference, params=params, origin=task.origin)
            return await kind.check(inner, completion)
        except VerifierError as error:
            return Verdict(outcome=VerdictOutcome.ERROR, reason=str(error))


def _passed(verdict: Verdict) -> bool:
    return verdict.is_scored and verdict.reward == 1


def _joined(parts: Sequence[Part], verdicts: Sequence[Verdict], reward: float) -> Verdict:
    """The whole; the first part without a reward is the whole's outcome."""
    for part, verdict in zip(parts, verdicts, strict=False):
        if not verdict.is_scored:
            return replace(verdict, reason=f"{part.kind}: {verdict.reason}")
    reason = "; ".join(_words(p, v) for p, v in zip(parts, verdicts, strict=False))
    return replace(scored(reward, reason), isolation=_isolation(verdicts))


def _words(part: Part, verdict: Verdict) -> str:
    return f"{part.kind} {verdict.reward:.3g} ({verdict.reason[:_LONGEST_REASON]})"


def _isolation(verdicts: Sequence[Verdict]) -> str:
    return "; ".join(dict.fromkeys(v.isolation for v in verdicts if v.isolation))


def _levels(parts: Sequence[Part]) -> int:
    """Composites within each other, this one counted; parts of parts are not checked yet."""
    level, inner = 1, [part.params for part in parts if part.kind == "composite"]
    while inner and level <= _DEEPEST:
        level += 1
        found = [part for params in inner for part in _as_list(params.get("parts"))]
        inner = [_as_dict(part.get("params")) for part in found if part.get("kind") == "composite"]
    return level


def _as_list(value: object) -> list[dict[str, Any]]:
    return [_as_dict(v) for v in value] if isinstance(value, list) else []


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
