"""Token credit for the eye: Δ, w and the advantage of each sampled token, from the batch log. Pure.

The training formula lives in `rlsd.objectives.credit`; this copy is numpy so that a report opens
without torch, and a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlsd.trajectory import Group, GroupOutcome, Trajectory

Array = npt.NDArray[np.float64]

MAX_EXPONENT = 30.0
_TRAINED = 20.0
_MIXED = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditRule:
    """The settings that turn Δ into a weight."""

    eps_w: float = 0.2
    negative_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """A group worth showing, and the step that consumed it."""

    step: int
    group: Group


def group_advantages(
    rewards: Sequence[float | None], *, normalise: bool = True
) -> list[float | None]:
    """(R - mean) / (std + 1e-6) over the scored members, deviation with n-1; None elsewhere.

    Args:
        normalise: False leaves the deviation out (Dr. GRPO).
    """
    scored = np.array([r for r in rewards if r is not None], dtype=np.float64)
    if len(scored) < 2:
        return [None] * len(rewards)
    scale = float(scored.std(ddof=1)) + 1e-6 if normalise else 1.0
    return [None if r is None else float((r - scored.mean()) / scale) for r in rewards]


def token_deltas(trajectory: Trajectory) -> Array | None:
    """[T] nats: Δ = teacher minus student log-prob, 0 at tokens of tools.

    None where the teacher gave no scores.
    """
    scores = trajectory.scores
    if scores is None or scores.teacher_logprobs.shape != scores.student_logprobs.shape:
        return None
    if scores.teacher_logprobs.shape != trajectory.token_ids.shape:
        return None
    with np.errstate(invalid="ignore"):
        deltas = scores.teacher_logprobs.astype(np.float64) - scores.student_logprobs
    return np.where(np.isfinite(deltas) & trajectory.sampled, deltas, 0.0)


def token_weights(advantage: float, deltas: Array, rule: CreditRule) -> Array:
    """[T] w = exp(sign(A)·Δ), before the clip; 1 where the rule leaves a trajectory alone."""
    if rule.negative_only and advantage > 0:
        return np.ones_like(deltas)
    exponents = np.clip(np.sign(advantage) * deltas, -MAX_EXPONENT, MAX_EXPONENT)
    return np.asarray(np.exp(exponents), dtype=np.float64)


def clipped(weights: Array, rule: CreditRule) -> Array:
    """[T] w held within 1 ± ε_w."""
    return np.clip(weights, 1.0 - rule.eps_w, 1.0 + rule.eps_w)


def concentration(trajectory: Trajectory) -> float:
    """Nats by which the largest |Δ| exceeds the mean of the others; 0 without scores."""
    deltas = token_deltas(trajectory)
    if deltas is None or trajectory.num_sampled < 2:
        return 0.0
    sizes = np.minimum(np.abs(deltas[trajectory.sampled]), 6.0)
    return float(sizes.max() - (sizes.sum() - sizes.max()) / (len(sizes) - 1))


def interest(group: Group) -> float:
    """How much a group shows: best is a trained, mixed one with a clear culprit where it failed."""
    advantages = group_advantages(group.rewards)
    wrong = [
        t for t, a in zip(group.trajectories, advantages, strict=True) if a is not None and a < 0
    ]
    right = [a for a in advantages if a is not None and a > 0]
    if not group.trajectories:
        return -1.0
    mixed = _MIXED if wrong and right else 0.0
    trained = _TRAINED if group.outcome is GroupOutcome.TRAINED else 0.0
    balance = min(len(wrong), len(right), 3) * 0.5
    return trained + mixed + balance + max((concentration(t) for t in wrong), default=0.0)


def is_telling(group: Group) -> bool:
    """Whether the group was trained on and has right and wrong trajectories."""
    return interest(group) >= _TRAINED + _MIXED


def pick_groups(batch: Sequence[Picked], *, at_most: int) -> list[Picked]:
    """The most telling groups of a batch; one of the others when it has none."""
    telling = [p for p in batch if is_telling(p.group)]
    others = [p for p in batch if p.group.trajectories]
    chosen, limit = (telling, at_most) if telling else (others, 1)
    return sorted(chosen, key=lambda p: -interest(p.group))[:limit]


def positions(groups: Sequence[Group], *, num_bins: int = 48) -> tuple[Array, Array]:
    """Mean |Δ| by token position, tools' not counted: [bins] position, [bins] nats.

    Both are empty without scores.
    """
    rows = [
        d[t.sampled] for g in groups for t in g.trajectories if (d := token_deltas(t)) is not None
    ]
    longest = max((len(row) for row in rows), default=0)
    if longest == 0:
        return np.array([]), np.array([])
    sums, counts = np.zeros(longest), np.zeros(longest)
    for row in rows:
        sums[: len(row)] += np.abs(row)
        counts[: len(row)] += 1
    edges = np.unique(np.linspace(0, longest, min(num_bins, longest) + 1).astype(int))
    starts = edges[:-1]
    means = np.add.reduceat(sums, starts) / np.add.reduceat(counts, starts)
    return (starts + edges[1:] - 1) / 2 + 1, means
