"""What the learner says of its steps and of a run, as people and the report read it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlsd.staleness import staleness
from rlsd.trajectory import Group, GroupOutcome
from services.learner.ledger import Ledger

_ENDS = (GroupOutcome.TRAINED, GroupOutcome.REJECTED, GroupOutcome.FAILED)


def step_line(
    groups: Sequence[Group],
    phases: Mapping[str, float],
    learned: Mapping[str, float],
    *,
    learner_version: int | None,
) -> dict[str, Any]:
    """A step's line of `metrics.jsonl`, but for what the clock and the feeder add.

    Args:
        phases: seconds by phase; empty for a step that is executed again.
        learned: the objective's metrics.
        learner_version: before the step; None leaves staleness out (0).
    """
    trajectories = [t for g in groups for t in g.trajectories]
    behind = [] if learner_version is None else _behind(groups, learner_version)
    return {
        "step_s": sum(phases.values()),
        "phase_s": dict(phases),
        "reward_mean": _mean(r for g in groups for r in g.rewards if r is not None),
        "completion_tokens_mean": _mean(t.num_sampled for t in trajectories),
        "groups": {end.value: sum(g.outcome is end for g in groups) for end in _ENDS},
        "staleness_mean": _mean(behind),
        "staleness_max": max(behind, default=0),
        "tool_calls_mean": _mean(len(t.calls) for t in trajectories),
        **learned,
    }


def run_summary(
    ledger: Ledger, logged: Iterable[Group], evaluations: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The account and the result of a run; who it was and how long it took, others know.

    Args:
        logged: every group of the batch log.
        evaluations: lines of `evaluations.jsonl`.
    """
    trained = [g for g in logged if g.outcome is GroupOutcome.TRAINED]
    return {
        "held_out_accuracy": {
            "start": evaluations[0]["greedy_accuracy"] if evaluations else None,
            "end": evaluations[-1]["greedy_accuracy"] if evaluations else None,
        },
        "outcomes": ledger.outcomes(),
        "identity_residual": ledger.residual,
        "trained_twice": len(trained) - len({g.group_id for g in trained}),
        "trajectories": sum(len(g.trajectories) for g in trained),
        "verdicts": dict(ledger.verdicts),
        "duplicates_dropped": ledger.duplicates,
    }


def _behind(groups: Sequence[Group], learner_version: int) -> list[int]:
    """Staleness of each trajectory that was trained on."""
    return [
        staleness(learner_version, t.min_policy_version)
        for g in groups
        if g.outcome is GroupOutcome.TRAINED
        for t in g.trajectories
    ]


def _mean(values: Iterable[float]) -> float:
    """Mean of what there is; 0 of nothing."""
    found = list(values)
    return sum(found) / len(found) if found else 0.0
