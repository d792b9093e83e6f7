"""What a span says of a group: how much there is of it, never what it says."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rlsd.telemetry.tracing.attributes import Attribute, Attributes
from rlsd.telemetry.tracing.spans import annotate, is_on

if TYPE_CHECKING:
    from rlsd.trajectory import Group


def describe(group: Group) -> None:
    """Say on the current span which group it is and what the stage has added to it."""
    if is_on():
        annotate({Attribute.GROUP_ID: group.group_id, **_added(group)})


def _added(group: Group) -> Attributes:
    trajectories = group.trajectories
    if group.teacher_skipped:
        return {Attribute.TEACHER_SKIPPED: True}
    if versions := {t.scores.teacher_version for t in trajectories if t.scores}:
        return {Attribute.TEACHER_VERSION: max(versions)}
    if verdicts := Counter(t.verdict.outcome.value for t in trajectories if t.verdict):
        return {
            Attribute.VERDICTS_SCORED: verdicts["scored"],
            Attribute.VERDICTS_ERROR: verdicts["error"],
            Attribute.VERDICTS_TIMEOUT: verdicts["timeout"],
        }
    drawn: dict[Attribute, str | int | bool] = {
        Attribute.PROMPT_TOKENS: 0
        if group.prompt_token_ids is None
        else len(group.prompt_token_ids),
        Attribute.COMPLETION_TOKENS: sum(t.num_sampled for t in trajectories),
        Attribute.MIN_POLICY_VERSION: min(t.min_policy_version for t in trajectories),
        Attribute.MAX_POLICY_VERSION: max(t.max_policy_version for t in trajectories),
    }
    if num_calls := sum(len(t.calls) for t in trajectories):
        drawn[Attribute.TOOL_CALLS] = num_calls
    return drawn
