"""Policy-version arithmetic: who may use what. Pure decisions; loops only apply them."""

from __future__ import annotations


def staleness(learner_version: int, min_policy_version: int) -> int:
    """Versions between the learner's weights and the oldest ones a trajectory was sampled with."""
    return learner_version - min_policy_version


def is_stale(learner_version: int, min_policy_version: int, *, max_staleness: int) -> bool:
    """Whether a trajectory is too old to be trained on."""
    return staleness(learner_version, min_policy_version) > max_staleness


def credit_limit(groups_per_step: int, *, max_staleness: int) -> int:
    """Groups that may exist at once: (k + 1) batches. With k = 0 the loop is on-policy."""
    return (max_staleness + 1) * groups_per_step
