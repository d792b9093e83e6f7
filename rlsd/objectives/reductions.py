"""From token losses [B, T] to one number, always over an explicit GLOBAL denominator.

The denominators count tokens or sequences over all ranks, all microbatches and the groups that were
left out because their advantage is 0. So the sum of a reduction over the parts of a batch is the
reduction of the whole, wherever it is cut. What lies outside the mask is replaced before any
arithmetic; to keep NaN out of the gradient as well, replace it in the inputs (`masked`).
"""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """The same values in float32, or in their own type if that is wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def masked(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """[B, T] values with exact 0 outside the mask, whatever stood there, and gradient 0."""
    return at_least_float32(values_BT).masked_fill(~mask_BT.bool(), 0.0)


def token_mean(token_loss_BT: Tensor, mask_BT: Tensor, *, num_tokens: float) -> Tensor:
    """Every token weighs the same: the sum over masked tokens / `num_tokens`.

    Args:
        num_tokens: masked tokens of the global batch. If there are none, the result is 0.
    """
    return masked(token_loss_BT, mask_BT).sum() / max(num_tokens, 1)


def sequence_mean(token_loss_BT: Tensor, mask_BT: Tensor, *, num_sequences: float) -> Tensor:
    """Every trajectory weighs the same: the sum of per-sequence token means / `num_sequences`.

    Args:
        num_sequences: trajectories of the global batch. A row without masked tokens adds 0.
    """
    lengths_B = mask_BT.bool().sum(dim=1).clamp(min=1)
    return (masked(token_loss_BT, mask_BT).sum(dim=1) / lengths_B).sum() / max(num_sequences, 1)


def horizon_mean(
    token_loss_BT: Tensor, mask_BT: Tensor, *, num_sequences: float, horizon_tokens: float
) -> Tensor:
    """Token sums over a constant length: the sum over tokens / (`num_sequences * horizon_tokens`).

    Args:
        horizon_tokens: the longest completion allowed, > 0; a constant, so length earns nothing.

    Source: Liu et al. 2025 (arXiv:2503.20783) section 3.2.
    """
    if horizon_tokens <= 0:
        raise ValueError(f"horizon_tokens is {horizon_tokens}; give the longest completion allowed")
    return masked(token_loss_BT, mask_BT).sum() / (max(num_sequences, 1) * horizon_tokens)
