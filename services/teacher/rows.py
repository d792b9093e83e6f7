"""What is scored of a group: which rows, and what the teacher reads before each of them.

Pure but for the tokenizer; what computes the log-probs is in `scorers/`. The completion's own ids
are appended to the tokenised prefix, never text tokenised again, so both contexts score exactly the
tokens that were sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlsd.errors import TeacherError
from rlsd.policy.loading import prompt_ids
from rlsd.policy.scoring import Ids
from rlsd.policy.vision import Picture, Vision
from rlsd.privileged.context import policy_messages, privileged_context, teacher_messages
from rlsd.privileged.demonstrations import demonstration_indices
from rlsd.trajectory import (
    Group,
    PrivilegedSource,
    TeacherNeed,
    TeacherScores,
    Trajectory,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One trajectory to score."""

    trajectory: Trajectory
    prompt_ids: Ids
    prefix_ids: Ids
    """What the teacher reads."""
    pictures: tuple[Picture, ...] = ()
    """Those that both have places for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRows:
    """The rows of one group."""

    group: Group
    by_member: Mapping[int, Row]
    skipped: str
    """Why some that should be scored are not; empty when all are."""

    def filled(self, scores: Mapping[int, TeacherScores]) -> Group:
        """The group with scores by member."""
        trajectories = tuple(
            replace(t, scores=scores.get(t.member)) for t in self.group.trajectories
        )
        return replace(self.group, trajectories=trajectories, teacher_skipped=self.skipped)


class RowMaker:
    """Makes the rows of a group, in the run's template."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        template: str,
        max_prefix_tokens: int,
        vision: Vision | None = None,
        tools: Sequence[dict[str, Any]] = (),
    ) -> None:
        """`tools` are the functions that the policy's prompt shows too."""
        self._tokenizer = tokenizer
        self._vision = vision
        self._tools = tools
        self._template = template
        self._max_prefix_tokens = max_prefix_tokens

    def rows(self, group: Group) -> GroupRows:
        """The rows to score.

        Raises:
            TeacherError: the group was not rolled out.
            ConfigError, ServiceError, StorageError: an image cannot be had or read.
        """
        if group.prompt_token_ids is None:
            raise TeacherError(f"group {group.group_id}: has no prompt ids; roll it out first")
        contexts = privileged_contexts(group)
        images = group.prompt.images
        pictures = self._vision.pictures(images) if self._vision and images else ()
        prefixes: dict[str | None, list[int]] = {}
        rows: dict[int, Row] = {}
        skipped = ""
        for trajectory in group.trajectories:
            if not needs_scores(group, trajectory):
                continue
            context = contexts[trajectory.member]
            if context is None and group.plan.privileged is PrivilegedSource.SIBLING:
                continue  # no successful sibling to learn from: by design, not a loss
            if context not in prefixes:
                prefixes[context] = self._prefix(group, context)
            prefix = prefixes[context]
            if len(prefix) > self._max_prefix_tokens:
                skipped = f"prefix of {len(prefix)} tokens exceeds {self._max_prefix_tokens}"
                continue
            rows[trajectory.member] = Row(
                trajectory=trajectory,
                prompt_ids=group.prompt_token_ids,
                prefix_ids=prefix,
                pictures=pictures,
            )
        return GroupRows(group=group, by_member=rows, skipped=skipped)

    def _prefix(self, group: Group, context: str | None) -> list[int]:
        messages = (
            policy_messages(group.prompt)
            if context is None
            else teacher_messages(group.prompt, context, template=self._template)
        )
        return prompt_ids(self._tokenizer, messages, self._vision, tools=self._tools)


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
