"""What a span says of a group: how much there is of it, never what it says."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rlsd.telemetry.tracing.attributes import Attribute
from rlsd.telemetry.tracing.spans import annotate, is_on

if TYPE_CHECKING:
    from rlsd.trajectory import Group


def describe(group: Group) -> None:
    """Say on the current span what the group holds by now."""
    if is_on():
        annotate(_attributes(group))


def _attributes(group: Group) -> dict[Attribute, str | int | bool]:
    found: dict[Attribute, str | int | bool] = {
        Attribute.GROUP_ID: group.group_id,
        Attribute.GROUP_INDEX: group.index,
        Attribute.REQUIRED_POLICY_VERSION: group.required_policy_version,
        Attribute.TRAJECTORIES: len(group.trajectories),
    }
    if group.prompt_token_ids is not None:
        found[Attribute.PROMPT_TOKENS] = len(group.prompt_token_ids)
    if group.trajectories:
        trajectories = group.trajectories
        found[Attribute.COMPLETION_TOKENS] = sum(t.num_sampled for t in trajectories)
        found[Attribute.TOOL_CALLS] = sum(len(t.calls) for t in trajectories)
        found[Attribute.MIN_POLICY_VERSION] = min(t.min_policy_version for t in trajectories)
        found[Attribute.MAX_POLICY_VERSION] = max(t.max_policy_version for t in trajectories)
    verdicts = Counter(t.verdict.outcome.value for t in group.trajectories if t.verdict)
    if verdicts:
        found[Attribute.VERDICTS_SCORED] = verdicts["scored"]
        found[Attribute.VERDICTS_ERROR] = verdicts["error"]
        found[Attribute.VERDICTS_TIMEOUT] = verdicts["timeout"]
    versions = {t.scores.teacher_version for t in group.trajectories if t.scores}
    if versions:
        found[Attribute.TEACHER_VERSION] = max(versions)
    if group.teacher_skipped:
        found[Attribute.TEACHER_SKIPPED] = True
    return found
