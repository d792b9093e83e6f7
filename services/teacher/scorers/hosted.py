"""An inference engine of others as the teacher's: two contexts, one version, temperature 1."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from types import TracebackType
from typing import Self

import numpy as np

from rlsd.errors import TeacherError
from rlsd.inference.engine import InferenceEngine, Scores
from rlsd.inference.versions import HeldWeights
from rlsd.policy.vision import Picture
from rlsd.trajectory import FloatArray, Group, GroupPlan, IntArray, TeacherNeed, TeacherScores
from services.teacher import metrics
from services.teacher.rows import Row, RowMaker
from services.teacher.scorers.siblings import Ids, all_or_none, score_siblings
from services.teacher.scorers.turns import Turns

_Pass = tuple[Ids, Ids, int]
"""Prefix, completion, and how many likeliest tokens are wanted at each of its positions."""


class HostedScorer:
    """Enters and leaves the inference engine with itself."""

    def __init__(
        self,
        engine: InferenceEngine,
        weights: HeldWeights | None,
        maker: RowMaker,
        *,
        num_vocabulary: int,
    ) -> None:
        """Remember the parts.

        Args:
            weights: the policy's versions in `engine`; None for a fixed external teacher.
            num_vocabulary: the tokens that the model distinguishes.
        """
        self._engine = engine
        self._weights = weights
        self._maker = maker
        self._num_vocabulary = num_vocabulary
        self._turns = None if weights is None else Turns(weights.exactly)

    @property
    def version(self) -> int:
        """Installed weight version; -1 before the first, and for an external teacher."""
        return -1 if self._weights is None else self._weights.version

    async def __aenter__(self) -> Self:
        await self._engine.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._turns is not None:
            await self._turns.close()
        await self._engine.__aexit__(kind, error, traceback)

    async def score(self, group: Group) -> Group:
        """The group with its scores filled in."""
        if group.sampling.temperature != 1:
            raise TeacherError(
                f"group {group.group_id}: sampled at temperature {group.sampling.temperature:g}, "
                f"and this engine scores at 1; use teacher.engine = 'transformers'"
            )
        # In a thread where images are loaded on the way.
        prepared = (
            await asyncio.to_thread(self._maker.rows, group)
            if group.prompt.images
            else self._maker.rows(group)
        )
        if not prepared.by_member:
            return prepared.filled({})
        version = group.plan.teacher_version
        async with self._turns.of(version) if self._turns else contextlib.nullcontext():
            scores = await self._score_rows(list(prepared.by_member.values()), group.plan)
        return prepared.filled(dict(zip(prepared.by_member, scores, strict=True)))

    async def _score_rows(self, rows: Sequence[Row], plan: GroupPlan) -> list[TeacherScores]:
        for_teacher, for_student = self._likeliest(plan)
        completions = [_tuple(r.trajectory.token_ids) for r in rows]
        passes: list[_Pass] = [
            (_tuple(r.prefix_ids), completion, for_teacher)
            for r, completion in zip(rows, completions, strict=True)
        ]
        if self._weights is not None:
            passes += [
                (_tuple(r.prompt_ids), completion, for_student)
                for r, completion in zip(rows, completions, strict=True)
            ]
        scores = await self._score_passes(passes, rows[0].pictures)
        teachers, students = scores[: len(rows)], scores[len(rows) :]
        return [
            self._result(row, plan, teacher, student)
            for row, teacher, student in zip_longest(rows, teachers, students)
        ]

    def _likeliest(self, plan: GroupPlan) -> tuple[int, int]:
        """How many likeliest tokens are asked for with the privileged context and without."""
        num_support = min(plan.num_support, self._num_vocabulary)
        match plan.teacher:
            case TeacherNeed.NONE | TeacherNeed.SAMPLED:
                return 0, 0
            case TeacherNeed.TEACHER_SUPPORT:
                return num_support, 0
            case TeacherNeed.STUDENT_SUPPORT:
                # Engines name their own likeliest tokens only; of all of them it is any.
                return self._num_vocabulary, num_support

    async def _score_passes(
        self, passes: Sequence[_Pass], pictures: tuple[Picture, ...]
    ) -> list[Scores]:
        """Scores in order; passes with one prefix go to the engine as siblings.

        Args:
            pictures: those of the group's prompt, which every prefix has places for.
        """
        families: dict[tuple[Ids, int], list[int]] = defaultdict(list)
        for number, (prefix, _, num_likeliest) in enumerate(passes):
            families[prefix, num_likeliest].append(number)
        scored = await all_or_none(
            [
                score_siblings(
                    self._engine,
                    prefix,
                    [passes[n][1] for n in numbers],
                    num_likeliest=num_likeliest,
                    pictures=pictures,
                )
                for (prefix, num_likeliest), numbers in families.items()
            ]
        )
        by_number: Mapping[int, Scores] = {
            number: score
            for numbers, scores in zip(families.values(), scored, strict=True)
            for number, score in zip(numbers, scores, strict=True)
        }
        computed = [s.num_computed for s in by_number.values() if s.num_computed is not None]
        if len(computed) == len(passes):
            metrics.observe_passes(sum(len(p) + len(c) for p, c, _ in passes), sum(computed))
        return [by_number[number] for number in range(len(passes))]

    def _result(
        self, row: Row, plan: GroupPlan, teacher: Scores, student: Scores | None
    ) -> TeacherScores:
        ids = logprobs = None
        if plan.teacher is TeacherNeed.TEACHER_SUPPORT:
            ids, logprobs = teacher.likeliest_ids, teacher.likeliest_logprobs
        elif plan.teacher is TeacherNeed.STUDENT_SUPPORT:
            ids = (student or teacher).likeliest_ids
            assert ids is not None
            ids = ids[:, : plan.num_support]
            logprobs = _looked_up(teacher, ids)
        return TeacherScores(
            teacher_version=self.version,
            teacher_logprobs=teacher.logprobs,
            # An external teacher has no view of the policy; its sampler's stands in.
            student_logprobs=row.trajectory.rollout_logprobs
            if student is None
            else student.logprobs,
            support_ids=ids,
            teacher_support_logprobs=logprobs,
        )


def _looked_up(whole: Scores, ids: IntArray) -> FloatArray:
    """[T, K] log-probs of the given tokens, out of those of the whole vocabulary."""
    assert whole.likeliest_ids is not None
    assert whole.likeliest_logprobs is not None
    by_token = np.empty_like(whole.likeliest_logprobs)
    np.put_along_axis(by_token, whole.likeliest_ids.astype(np.int64), whole.likeliest_logprobs, 1)
    return np.take_along_axis(by_token, ids.astype(np.int64), 1)


def _tuple(ids: Sequence[int] | IntArray) -> Ids:
    return tuple(int(i) for i in ids)
