"""Where a verified group goes next. Pure; a rejected group still reaches the learner's ledger.

The verifier's stream worker applies it, and the learner when it calls the stages itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from rlsd.streams.stage import Stage
from rlsd.trajectory import (
    Group,
    GroupOutcome,
    RejectReason,
    TeacherNeed,
    has_zero_variance,
    num_scored,
)


class Route(NamedTuple):
    """The next stage, and the group as it arrives there."""

    stage: Stage
    group: Group


def route(group: Group) -> Route:
    """Decide about a group whose verdicts are in."""
    reason = _reject_reason(group)
    if reason is not None:
        rejected = replace(group, outcome=GroupOutcome.REJECTED, reason=reason.value)
        return Route(Stage.TRAIN, rejected)
    if group.plan.teacher is TeacherNeed.NONE:
        return Route(Stage.TRAIN, group)
    return Route(Stage.TEACH, group)


def _reject_reason(group: Group) -> RejectReason | None:
    # Too few verdicts comes first: fewer than two rewards have no variance either.
    if num_scored(group.rewards) < 2:
        return RejectReason.NO_VERDICT
    if group.plan.reject_zero_variance and has_zero_variance(group.rewards):
        return RejectReason.ZERO_VARIANCE
    return None
