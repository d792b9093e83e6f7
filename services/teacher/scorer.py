"""Log-probs of sampled tokens in two contexts under one set of weights.

The completion's own ids are appended to the tokenised prefix, never text tokenised again, so both
contexts score exactly the tokens that were sampled. Both passes run in one engine, at one version
and one temperature: without privileged context they agree to rounding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlsd.errors import RlsdError, TeacherError
from rlsd.policy.loading import install, load_model, load_tokenizer, local_device, prompt_ids
from rlsd.policy.scoring import Ids, completion_logits, gather_logprobs, microbatches, pad_rows
from rlsd.privileged.context import policy_messages, privileged_context, teacher_messages
from rlsd.privileged.demonstrations import demonstration_indices
from rlsd.trajectory import (
    Group,
    PrivilegedSource,
    TeacherNeed,
    TeacherScores,
    Trajectory,
)
from rlsd.weights import WeightStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One trajectory to score."""

    trajectory: Trajectory
    prompt_ids: Ids
    prefix_ids: Ids
    """What the teacher reads."""


class Scorer:
    """Holds the teacher's model; runs on one thread."""

    def __init__(  # noqa: PLR0913  the settings of one engine
        self,
        model_path: str,
        store: WeightStore | None,
        *,
        template: str,
        max_prefix_tokens: int,
        dtype: str = "float32",
        max_tokens: int = 16384,
        probe_tolerance: float = 1e-3,
        pulse: Callable[[], object] = lambda: None,
    ) -> None:
        """Load the model.

        Args:
            store: where the policy's versions are; None for a fixed external teacher.
            max_tokens: padded tokens of one forward pass.
            pulse: called for each forward pass.
        """
        self._model = load_model(model_path, device=local_device(), dtype=dtype)
        self._tokenizer = load_tokenizer(model_path)
        self._store = store
        self._template = template
        self._max_prefix_tokens = max_prefix_tokens
        self._max_tokens = max_tokens
        self._probe_tolerance = probe_tolerance
        self._pulse = pulse
        self._version = -1

    @property
    def version(self) -> int:
        """Installed weight version; -1 before the first, and for an external teacher."""
        return self._version

    def score(self, groups: list[Group]) -> list[Group | Exception]:
        """Each group with its scores filled in, or the error to raise for it."""
        results: list[Group | Exception] = list(groups)
        alike: dict[tuple[int, float, str, int], list[int]] = defaultdict(list)
        for number, group in enumerate(groups):
            plan, temperature = group.plan, group.sampling.temperature
            key = (plan.teacher_version, temperature, plan.teacher.value, plan.num_support)
            alike[key].append(number)
        for (version, *_), numbers in sorted(alike.items()):
            try:
                self._hold(version)
                scored = self._score_alike([groups[n] for n in numbers])
            except RlsdError as error:
                scored = [error] * len(numbers)
            for number, result in zip(numbers, scored, strict=True):
                results[number] = result
        return results

    def _hold(self, version: int) -> None:
        if self._store is None or self._version == version:
            return
        install(self._model, self._store, version, tolerance=self._probe_tolerance)
        self._version = version

    def _score_alike(self, groups: list[Group]) -> list[Group | Exception]:
        """Score groups that want the same version, temperature and support, all rows together."""
        prepared = [self._rows(g) for g in groups]
        rows = [row for rows, _ in prepared for row in rows.values()]
        scores = iter(self._score_rows(rows, groups[0]) if rows else ())
        results: list[Group | Exception] = []
        for group, (by_member, skipped) in zip(groups, prepared, strict=True):
            found = {member: next(scores) for member in by_member}
            trajectories = tuple(replace(t, scores=found.get(t.member)) for t in group.trajectories)
            results.append(replace(group, trajectories=trajectories, teacher_skipped=skipped))
        return results

    def _rows(self, group: Group) -> tuple[dict[int, Row], str]:
        """Rows to score by member, and why some that should be are not."""
        if group.prompt_token_ids is None:
            raise TeacherError(f"group {group.group_id}: has no prompt ids; roll it out first")
        contexts = privileged_contexts(group)
        rows: dict[int, Row] = {}
        skipped = ""
        for trajectory in group.trajectories:
            if not needs_scores(group, trajectory):
                continue
            context = contexts[trajectory.member]
            if context is None and group.plan.privileged is PrivilegedSource.SIBLING:
                continue  # no successful sibling to learn from: by design, not a loss
            prefix = self._prefix(group, context)
            if len(prefix) > self._max_prefix_tokens:
                skipped = f"prefix of {len(prefix)} tokens exceeds {self._max_prefix_tokens}"
                continue
            rows[trajectory.member] = Row(
                trajectory=trajectory, prompt_ids=group.prompt_token_ids, prefix_ids=prefix
            )
        return rows, skipped

    def _prefix(self, group: Group, context: str | None) -> list[int]:
        messages = (
            policy_messages(group.prompt)
            if context is None
            else teacher_messages(group.prompt, context, template=self._template)
        )
        return prompt_ids(self._tokenizer, messages)

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
            pad_id=self._tokenizer.pad_token_id or 0,
        )
        logits = completion_logits(self._model, padded, temperature=temperature)
        return logits, padded.completion_BT.to(logits.device)


def privileged_contexts(group: Group) -> list[str | None]:
    """What the teacher may read, by member; None where there is nothing."""
    match group.plan.privileged:
        case PrivilegedSource.NONE:
            return [None] * len(group.trajectories)
        case PrivilegedSource.REFERENCE:
            return [privileged_context(group.prompt)] * len(group.trajectories)
        case PrivilegedSource.SIBLING:
            rewards = [0.0 if r is None else r for r in group.rewards]
            chosen = demonstration_indices(rewards)
            return [None if i is None else group.trajectories[i].text for i in chosen]


def needs_scores(group: Group, trajectory: Trajectory) -> bool:
    """Whether this row's credit depends on the teacher.

    An unscored row is in no loss. When only the sampled tokens are asked for and a group without
    variance is rejected, credit multiplies the advantage, so a row at its group's mean has none.
    """
    if trajectory.verdict is None or not trajectory.verdict.is_scored:
        return False
    if group.plan.teacher is not TeacherNeed.SAMPLED or not group.plan.reject_zero_variance:
        return True
    rewards = [r for r in group.rewards if r is not None]
    return trajectory.verdict.reward != sum(rewards) / len(rewards)


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
