"""The `transformers` scorer: plain forward passes over whatever groups have arrived.

It is the default on a machine without a GPU, and has every log-prob of every position at hand.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from rlsd.errors import RlsdError
from rlsd.policy.loading import install, load_model, local_device
from rlsd.policy.scoring import Ids, completion_logits, gather_logprobs, microbatches, pad_rows
from rlsd.serving.batcher import Batcher
from rlsd.trajectory import Group, TeacherNeed, TeacherScores
from rlsd.weights import Fetched, WeightStore
from services.teacher import metrics
from services.teacher.rows import GroupRows, Row, RowMaker


class TransformersScorer:
    """Holds the model; `Batcher` gives it one batch of groups at a time on one thread."""

    def __init__(  # noqa: PLR0913  the settings of one engine
        self,
        model_path: str,
        store: WeightStore | None,
        maker: RowMaker,
        *,
        dtype: str = "float32",
        max_groups: int = 32,
        max_tokens: int = 16384,
        probe_tolerance: float = 1e-3,
        threads: int = 1,
        pulse: Callable[[], object] = lambda: None,
    ) -> None:
        """Load the model.

        Args:
            store: where the policy's versions are; None for a fixed external teacher.
            max_groups: largest batch.
            max_tokens: padded tokens of one forward pass.
            pulse: called on the compute thread for each forward pass and, when idle, once a second.
        """
        self._model = load_model(model_path, device=local_device(), dtype=dtype)
        self._store = store
        self._maker = maker
        self._max_tokens = max_tokens
        self._probe_tolerance = probe_tolerance
        self._pulse = pulse
        self._version = -1
        self._fetched: dict[int, Fetched] = {}
        """Versions that are here, until they are installed."""
        self._fetching = asyncio.Lock()
        self._batcher: Batcher[Group, Group] = Batcher(
            self.score_together,
            max_items=max_groups,
            initializer=lambda: torch.set_num_threads(threads),
            pulse=pulse,
        )

    @property
    def version(self) -> int:
        """Installed weight version; -1 before the first, and for an external teacher."""
        return self._version

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._batcher.__aexit__(kind, error, traceback)

    async def score(self, group: Group) -> Group:
        """The group with its scores filled in."""
        await self._fetch(group.plan.teacher_version)
        return await self._batcher.submit(group)

    async def _fetch(self, version: int) -> None:
        """Bring weights here, unless they are; the compute thread goes on with those it has."""
        if self._store is None:
            return
        async with self._fetching:
            if version not in (self._version, *self._fetched):
                fetching = asyncio.to_thread(self._store.fetch, version)
                self._fetched[version] = await metrics.WEIGHTS.take(fetching)

    def score_together(self, groups: list[Group]) -> list[Group | Exception]:
        """On the calling thread: each group with its scores, or the error to raise for it."""
        results: list[Group | Exception] = list(groups)
        prepared: dict[int, GroupRows] = {}
        alike: dict[tuple[int, float, str, int], list[int]] = defaultdict(list)
        for number, group in enumerate(groups):
            try:
                prepared[number] = self._maker.rows(group)
            except RlsdError as error:  # its own: the others are scored
                results[number] = error
                continue
            plan, temperature = group.plan, group.sampling.temperature
            key = (plan.teacher_version, temperature, plan.teacher.value, plan.num_support)
            alike[key].append(number)
        for (version, *_), numbers in sorted(alike.items()):
            try:
                self._hold(version)
                scored: Sequence[Group | Exception] = self._score_alike(
                    [prepared[n] for n in numbers]
                )
            except RlsdError as error:
                scored = [error] * len(numbers)
            for number, result in zip(numbers, scored, strict=True):
                results[number] = result
        return results

    def _hold(self, version: int) -> None:
        if self._store is None or self._version == version:
            return
        fetched = self._fetched.get(version) or self._store.fetch(version)
        try:
            install(self._model, fetched, tolerance=self._probe_tolerance, meter=metrics.WEIGHTS)
        finally:
            self._fetched.pop(version, None)
        self._version = version
        metrics.VERSION.set(version)

    def _score_alike(self, prepared: list[GroupRows]) -> list[Group]:
        """Score groups that want the same version, temperature and support, all rows together."""
        rows = [row for p in prepared for row in p.by_member.values()]
        scores = iter(self._score_rows(rows, prepared[0].group) if rows else ())
        return [p.filled({member: next(scores) for member in p.by_member}) for p in prepared]

    @torch.inference_mode()
    def _score_rows(self, rows: Sequence[Row], like: Group) -> list[TeacherScores]:
        temperature, plan = like.sampling.temperature, like.plan
        scores: list[TeacherScores] = []
        lengths = [max(len(r.prefix_ids), len(r.prompt_ids)) for r in rows]
        for part in microbatches(
            lengths, [r.trajectory.num_tokens for r in rows], max_tokens=self._max_tokens
        ):
            self._pulse()
            chosen = [rows[n] for n in part]
            teacher_BTV, ids_BT = self._logits(chosen, lambda r: r.prefix_ids, temperature)
            student_BTV = (
                teacher_BTV
                if self._store is None
                else self._logits(chosen, lambda r: r.prompt_ids, temperature)[0]
            )
            support = _support(teacher_BTV, student_BTV, plan.teacher, plan.num_support)
            teacher_BT = gather_logprobs(teacher_BTV, ids_BT).cpu().numpy()
            student_BT = gather_logprobs(student_BTV, ids_BT).cpu().numpy()
            for place, number in enumerate(part):
                length = rows[number].trajectory.num_tokens
                row = rows[number].trajectory
                scores.append(
                    TeacherScores(
                        teacher_version=self._version,
                        teacher_logprobs=teacher_BT[place, :length],
                        # An external teacher has no view of the policy; its sampler's stands in.
                        student_logprobs=row.rollout_logprobs
                        if self._store is None
                        else student_BT[place, :length],
                        support_ids=None if support is None else support[0][place, :length],
                        teacher_support_logprobs=None
                        if support is None
                        else support[1][place, :length],
                    )
                )
        return scores

    def _logits(
        self, rows: Sequence[Row], prefix_of: Callable[[Row], Ids], temperature: float
    ) -> tuple[Tensor, Tensor]:
        padded = pad_rows(
            [prefix_of(r) for r in rows],
            [r.trajectory.token_ids for r in rows],
            pad_id=0,
            pictures=[r.pictures for r in rows],
        )
        logits = completion_logits(self._model, padded, temperature=temperature)
        return logits, padded.completion_BT.to(logits.device)


def _support(
    teacher_BTV: Tensor, student_BTV: Tensor, need: TeacherNeed, num_support: int
) -> tuple[Any, Any] | None:
    """Ids [B, T, K] and the teacher's log-probs of them, or None when not asked for."""
    match need:
        case TeacherNeed.NONE | TeacherNeed.SAMPLED:
            return None
        case TeacherNeed.TEACHER_SUPPORT:
            source_BTV = teacher_BTV
        case TeacherNeed.STUDENT_SUPPORT:
            source_BTV = student_BTV
    num_support = min(num_support, source_BTV.shape[-1])
    ids_BTK = source_BTV.topk(num_support, dim=-1).indices
    logprobs_BTK = teacher_BTV.log_softmax(-1).gather(-1, ids_BTK)
    return ids_BTK.cpu().numpy().astype(np.int32), logprobs_BTK.cpu().numpy()
