"""From logged groups to the tensors of one optimizer step. Pure, but for loading images.

Every rank computes the same rows, denominators and microbatch plan from the same batch file, then
takes its own share; only the forward passes differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlsd.objectives.loss import Denominators, ObjectiveBatch, group_advantages
from rlsd.objectives.methods import Method, ZeroVariance
from rlsd.policy.scoring import Rows, microbatches, pad_rows
from rlsd.policy.vision import Vision
from rlsd.trajectory import Group, GroupOutcome, RejectReason, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """One trajectory with its advantage."""

    prompt_ids: npt.NDArray[np.int32]
    trajectory: Trajectory
    advantage: float
    images: tuple[str, ...] = ()
    """References of those that the prompt has places for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """What one step trains on, the same on every rank."""

    rows: tuple[TrainingRow, ...]
    denominators: Denominators


def plan_step(groups: Sequence[Group], method: Method, *, horizon_tokens: int) -> StepPlan:
    """Rows that carry a gradient, and the denominators over everything that counts.

    A rejected group of equal rewards has no gradient; its tokens still count where the method's
    mean runs over all that was sampled (`ZeroVariance.REJECT`). A row that cannot move anything,
    without advantage and without teacher, is not computed either.
    """
    trained = [g for g in groups if g.outcome is GroupOutcome.TRAINED]
    counted = list(trained)
    if method.zero_variance is ZeroVariance.REJECT:
        counted += [g for g in groups if g.reason == RejectReason.ZERO_VARIANCE.value]
    rows = [row for g in trained for row in _rows(g, method)]
    scored = [t for g in counted for t in g.trajectories if t.verdict and t.verdict.is_scored]
    taught = [t for t in scored if t.scores is not None]
    return StepPlan(
        rows=tuple(r for r in rows if r.advantage != 0.0 or r.trajectory.scores is not None),
        denominators=Denominators(
            num_tokens=max(1, sum(t.num_sampled for t in scored)),
            num_sequences=max(1, len(scored)),
            horizon_tokens=horizon_tokens,
            num_taught_tokens=max(1, sum(t.num_sampled for t in taught)),
            num_taught_sequences=max(1, len(taught)),
        ),
    )


def share(plan: StepPlan, *, rank: int, world: int, max_tokens: int) -> list[list[TrainingRow]]:
    """Cut the rows into microbatches and take one rank's.

    All ranks get equally many, since their collectives must match: a rank with fewer gets empty
    ones, for which it runs a forward pass of weight 0.
    """
    shares = [_cut(plan.rows[r::world], max_tokens) for r in range(world)]
    longest = max(len(s) for s in shares)
    mine = shares[rank]
    return mine + [[] for _ in range(longest - len(mine))]


def filler_rows(
    rows: Sequence[TrainingRow], plan: StepPlan, *, world: int
) -> tuple[TrainingRow, ...]:
    """Rows of weight 0 that make one rank's forward pass call what the others' do.

    An empty microbatch gets any row. Of several ranks, whose collectives must match, one without
    images gets a row with images when the step has any: else the vision tower would run here and
    not there.
    """
    seen = next((r for r in plan.rows if r.images), None)
    if world > 1 and seen is not None and not any(r.images for r in rows):
        return (seen,)
    return () if rows else plan.rows[:1]


def pad(rows: Sequence[TrainingRow], *, pad_id: int, vision: Vision | None = None) -> Rows:
    """The rectangle of one microbatch."""
    return pad_rows(
        [r.prompt_ids for r in rows],
        [r.trajectory.token_ids for r in rows],
        pad_id=pad_id,
        pictures=[vision.pictures(r.images) for r in rows] if vision else (),
    )


def objective_batch(rows: Sequence[TrainingRow], policy_logprobs_BT: Tensor) -> ObjectiveBatch:
    """Everything the objective needs beside the policy's own log-probs.

    Tokens of tools are outside the mask, like padding: whatever stands there. There is one
    optimizer step for each batch, so the log-probs before the first update (`old_logprobs`) are
    the policy's present ones without gradient.
    """
    num_tokens, device = policy_logprobs_BT.shape[1], policy_logprobs_BT.device
    scores = [r.trajectory.scores for r in rows]
    rollout_logprobs = [r.trajectory.rollout_logprobs for r in rows]

    def scored(field: str) -> Tensor | None:
        return _pad([None if s is None else getattr(s, field) for s in scores], num_tokens)

    tensors = {
        "advantages_B": torch.tensor([r.advantage for r in rows]),
        "mask_BT": _pad([r.trajectory.sampled for r in rows], num_tokens),
        "rollout_logprobs_BT": _pad(rollout_logprobs, num_tokens),
        "teacher_logprobs_BT": scored("teacher_logprobs"),
        "student_logprobs_BT": scored("student_logprobs"),
        "teacher_available_B": torch.tensor([s is not None for s in scores]),
        "support_ids_BTK": scored("support_ids"),
        "teacher_support_logprobs_BTK": scored("teacher_support_logprobs"),
    }
    placed = {name: None if x is None else x.to(device) for name, x in tensors.items()}
    return ObjectiveBatch(old_logprobs_BT=policy_logprobs_BT.detach(), **placed)  # type: ignore[arg-type]


def _rows(group: Group, method: Method) -> list[TrainingRow]:
    assert group.prompt_token_ids is not None, f"{group.group_id} was trained without prompt ids"
    rewards = group.rewards
    advantages = group_advantages(
        method,
        torch.tensor([0.0 if r is None else r for r in rewards], dtype=torch.float64),
        torch.zeros(len(rewards), dtype=torch.long),
        torch.tensor([r is not None for r in rewards]),
    )
    return [
        TrainingRow(
            prompt_ids=group.prompt_token_ids,
            trajectory=t,
            advantage=float(a),
            images=group.prompt.images,
        )
        for t, a, reward in zip(group.trajectories, advantages, rewards, strict=True)
        if reward is not None
    ]


def _cut(rows: Sequence[TrainingRow], max_tokens: int) -> list[list[TrainingRow]]:
    parts = microbatches(
        [len(r.prompt_ids) for r in rows],
        [r.trajectory.num_tokens for r in rows],
        max_tokens=max_tokens,
    )
    return [[rows[n] for n in part] for part in parts]


def _pad(arrays: Sequence[npt.NDArray[Any] | None], num_tokens: int) -> Tensor | None:
    """[B, T] or [B, T, K] with zeros after each row's end; None when no row has an array."""
    present = [a for a in arrays if a is not None]
    if not present:
        return None
    shape = (len(arrays), num_tokens, *present[0].shape[1:])
    padded = np.zeros(shape, dtype=present[0].dtype)
    for row, array in enumerate(arrays):
        if array is not None:
            padded[row, : len(array)] = array
    tensor = torch.from_numpy(padded)
    is_index = not tensor.is_floating_point() and tensor.dtype is not torch.bool
    return tensor.long() if is_index else tensor
