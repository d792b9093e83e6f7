"""Weights against the gap between the sampler's and the learner's numbers for the same policy.

With `x = exp(old - rollout)`, each function gives a [B, T] constant that multiplies the token loss.
The denominator keeps every token, dropped ones included. Weights are 0 outside the mask, where the
log-probs may hold anything.
"""

from __future__ import annotations

from torch import Tensor

from rlsd.objectives.reductions import masked


def decoupled_weights(
    old_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, mask_BT: Tensor
) -> Tensor:
    """`x` itself: the proximal policy is `old`, the behaviour policy is `rollout`.

    Source: Hilton et al. 2021 (arXiv:2110.00641); AReaL, Fu et al. 2025 (arXiv:2505.24298).
    """
    return masked(_log_gap(old_logprobs_BT, rollout_logprobs_BT, mask_BT).exp(), mask_BT)


def token_tis(
    old_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, mask_BT: Tensor, *, cap: float
) -> Tensor:
    """Truncated importance sampling per token, `min(x, cap)`.

    Source: Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy Training".
    """
    return decoupled_weights(old_logprobs_BT, rollout_logprobs_BT, mask_BT).clamp(max=cap)


def sequence_tis(
    old_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, mask_BT: Tensor, *, cap: float
) -> Tensor:
    """Truncated importance sampling per sequence, `min(prod x, cap)` at each of its tokens.

    Source: Liu et al. 2025, "When Speed Kills Stability".
    """
    product_B = _sequence_product(old_logprobs_BT, rollout_logprobs_BT, mask_BT)
    return masked(product_B.clamp(max=cap).expand(mask_BT.shape), mask_BT)


def sequence_mis(
    old_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, mask_BT: Tensor, *, cap: float
) -> Tensor:
    """Masked importance sampling per sequence: `prod x` where it is at most `cap`, else 0.

    Source: Liu et al. 2025, "When Speed Kills Stability".
    """
    product_B = _sequence_product(old_logprobs_BT, rollout_logprobs_BT, mask_BT)
    kept_B = product_B.masked_fill(product_B > cap, 0.0)
    return masked(kept_B.expand(mask_BT.shape), mask_BT)


def geometric_rejection(
    old_logprobs_BT: Tensor,
    rollout_logprobs_BT: Tensor,
    mask_BT: Tensor,
    *,
    low: float,
    high: float,
) -> Tensor:
    """1 where the sequence's geometric mean of x is within [low, high], else 0.

    Source: Liu et al. 2025, "When Speed Kills Stability".
    """
    gap_BT = _log_gap(old_logprobs_BT, rollout_logprobs_BT, mask_BT)
    lengths_B = mask_BT.bool().sum(dim=1, keepdim=True).clamp(min=1)
    mean_B = (gap_BT.sum(dim=1, keepdim=True) / lengths_B).exp()
    kept_B = (mean_B >= low) & (mean_B <= high)
    return masked(kept_B.to(gap_BT.dtype).expand(mask_BT.shape), mask_BT)


def icepop(
    old_logprobs_BT: Tensor,
    rollout_logprobs_BT: Tensor,
    mask_BT: Tensor,
    *,
    low: float,
    high: float,
) -> Tensor:
    """`x` where it is within [low, high], else 0: two-sided, per token.

    Source: Ling team 2025, "Small Leak Can Sink a Great Ship" (IcePop).
    """
    weights_BT = decoupled_weights(old_logprobs_BT, rollout_logprobs_BT, mask_BT)
    return weights_BT.masked_fill((weights_BT < low) | (weights_BT > high), 0.0)


def _log_gap(old_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """[B, T] nats, detached, 0 outside the mask."""
    old_BT = masked(old_logprobs_BT.detach(), mask_BT)
    return old_BT - masked(rollout_logprobs_BT.detach(), mask_BT)


def _sequence_product(
    old_logprobs_BT: Tensor, rollout_logprobs_BT: Tensor, mask_BT: Tensor
) -> Tensor:
    """[B, 1] the product of x over each sequence."""
    return _log_gap(old_logprobs_BT, rollout_logprobs_BT, mask_BT).sum(dim=1, keepdim=True).exp()
