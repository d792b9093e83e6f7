"""Outcome advantages: one number per trajectory from the rewards of its group.

Shared arguments: `rewards_B` in reward units; `group_ids_B` integers, one for each prompt, rows in
any order; `valid_B` True where the verdict was scored. An invalid trajectory leaves the baseline of
its group and gets exactly 0; so does every member of a group that has fewer than two valid members
or whose valid rewards are all equal. The advantages of a group depend on nothing outside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlsd.objectives.reductions import at_least_float32


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupStatistics:
    """Per row, what its group's valid members say."""

    num_valid_B: Tensor
    mean_B: Tensor
    centered_B: Tensor
    """Reward minus the group's mean; exactly 0 where `varied_B` is False."""
    sum_squares_B: Tensor
    varied_B: Tensor
    """True on valid rows of groups whose valid rewards differ."""
    group_varied_B: Tensor
    """True on every row of such groups."""


def grpo_advantages(
    rewards_B: Tensor, group_ids_B: Tensor, valid_B: Tensor, *, ddof: int = 1, eps: float = 1e-6
) -> Tensor:
    """Rewards standardised within their group, `(R - mean) / (std + eps)`.

    Args:
        ddof: 1 divides the variance by n-1 (RLSD's released code), 0 by n.
        eps: added to the standard deviation, in reward units.

    Returns:
        [B] advantages, constant with respect to the policy.

    Source: Shao et al. 2024 (arXiv:2402.03300) section 4.1.
    """
    group = _group_statistics(rewards_B, group_ids_B, valid_B)
    variance_B = group.sum_squares_B / (group.num_valid_B - ddof).clamp(min=1)
    return group.centered_B / (variance_B.sqrt() + eps)


def dr_grpo_advantages(rewards_B: Tensor, group_ids_B: Tensor, valid_B: Tensor) -> Tensor:
    """Rewards centred on their group, `R - mean`, so that no group is amplified by its easiness.

    Source: Liu et al. 2025 (arXiv:2503.20783) section 3.2.
    """
    return _group_statistics(rewards_B, group_ids_B, valid_B).centered_B


def rloo_advantages(rewards_B: Tensor, group_ids_B: Tensor, valid_B: Tensor) -> Tensor:
    """Reward minus the mean reward of the other valid members.

    Source: Ahmadian et al. 2024 (arXiv:2402.14740).
    """
    group = _group_statistics(rewards_B, group_ids_B, valid_B)
    # R - (sum - R)/(n-1) is n/(n-1) times the centred reward.
    return group.centered_B * group.num_valid_B / (group.num_valid_B - 1).clamp(min=1)


def maxrl_advantages(
    rewards_B: Tensor, group_ids_B: Tensor, valid_B: Tensor, *, eps: float = 1e-6
) -> Tensor:
    """Centred rewards over the group's mean, `(R - mean) / (mean + eps)`; rewards must be >= 0.

    Source: Tajwar et al. 2026 (arXiv:2602.02710); eps guards a group of failures.
    """
    group = _group_statistics(rewards_B, group_ids_B, valid_B)
    return group.centered_B / (group.mean_B + eps)


def dapo_keep(rewards_B: Tensor, group_ids_B: Tensor, valid_B: Tensor) -> Tensor:
    """[B] bool, True on rows of groups that can teach: their valid rewards are not all equal.

    Source: Yu et al. 2025 (arXiv:2503.14476) eq. 11, dynamic sampling.
    """
    return _group_statistics(rewards_B, group_ids_B, valid_B).group_varied_B


def overlong_penalty(lengths_B: Tensor, *, max_tokens: int, cache_tokens: int) -> Tensor:
    """[B] shaping to add to the reward: 0 up to `max_tokens - cache_tokens`, then linear to -1.

    Args:
        lengths_B: completion lengths in tokens.
        max_tokens: length at which the penalty reaches -1; it stays there beyond.
        cache_tokens: width of the ramp, > 0.

    Source: Yu et al. 2025 (arXiv:2503.14476) eq. 13.
    """
    over_B = at_least_float32(lengths_B) - (max_tokens - cache_tokens)
    return (-over_B / cache_tokens).clamp(min=-1.0, max=0.0)


def _group_statistics(rewards_B: Tensor, group_ids_B: Tensor, valid_B: Tensor) -> _GroupStatistics:
    valid_B = valid_B.bool()
    # An invalid trajectory has no reward; whatever stands there must not enter arithmetic.
    rewards_B = at_least_float32(rewards_B).masked_fill(~valid_B, 0.0)
    if not bool(rewards_B.isfinite().all()):
        raise ValueError("a valid trajectory has a reward that is not finite; mark it invalid")
    groups, index_B = torch.unique(group_ids_B, return_inverse=True)

    def group_sum(values_B: Tensor) -> Tensor:
        zeros = values_B.new_zeros(groups.numel())
        return zeros.index_add(0, index_B, values_B)[index_B]

    def group_max(values_B: Tensor) -> Tensor:
        lowest = values_B.new_full((groups.numel(),), -torch.inf)
        return lowest.scatter_reduce(0, index_B, values_B, "amax")[index_B]

    largest_B = group_max(rewards_B.masked_fill(~valid_B, -torch.inf))
    smallest_B = -group_max((-rewards_B).masked_fill(~valid_B, -torch.inf))
    # Compared, not centred: the mean of equal rewards can miss them by one rounding, and a
    # standardised rounding error is an update.
    group_varied_B = largest_B > smallest_B
    varied_B = group_varied_B & valid_B
    num_valid_B = group_sum(valid_B.to(rewards_B.dtype))
    mean_B = group_sum(rewards_B) / num_valid_B.clamp(min=1)
    centered_B = (rewards_B - mean_B).masked_fill(~varied_B, 0.0)
    return _GroupStatistics(
        num_valid_B=num_valid_B,
        mean_B=mean_B,
        centered_B=centered_B,
        sum_squares_B=group_sum(centered_B.square()),
        varied_B=varied_B,
        group_varied_B=group_varied_B,
    )
