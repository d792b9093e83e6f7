"""Policy-gradient surrogates: token losses [B, T] to minimise, unmasked and unreduced.

Log-ratios are in nats and carry the gradient; `advantages_BT` are constant with respect to the
policy. Half-widths `low` and `high` are in ratio space: 0.2 means from 0.8.
"""

from __future__ import annotations

from torch import Tensor

from rlsd.objectives.reductions import masked

_MAX_LOG_RATIO = 20.0  # exp(20) is past every clip; without a bound, inf * 0 makes NaN


def probability_ratio(log_ratio_BT: Tensor) -> Tensor:
    """`exp(log_ratio)`, flat beyond +-20 nats so that it stays finite in float32."""
    return log_ratio_BT.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp()


def clipped_ratio(ratio_BT: Tensor, *, low: float | None, high: float) -> Tensor:
    """The ratio within [1 - low, 1 + high]; `low=None` leaves it unbounded below."""
    return ratio_BT.clamp(None if low is None else 1.0 - low, 1.0 + high)


def clipped_surrogate(
    log_ratio_BT: Tensor,
    advantages_BT: Tensor,
    *,
    low: float | None,
    high: float,
    dual: float | None = None,
) -> Tensor:
    """PPO's pessimistic surrogate with independent bounds and, for A < 0, an optional ceiling.

    Args:
        log_ratio_BT: [B, T] policy minus old; or a sequence ratio, which makes it GSPO.
        dual: > 1; where A < 0 the loss is at most `-dual A`, and flat there.

    Source: Schulman et al. 2017 (arXiv:1707.06347) eq. 7; Yu et al. 2025 (arXiv:2503.14476) eq. 8;
        Ye et al. 2020 (arXiv:1912.09729) for the ceiling.
    """
    ratio_BT = probability_ratio(log_ratio_BT)
    clipped_BT = clipped_ratio(ratio_BT, low=low, high=high)
    loss_BT = -(ratio_BT * advantages_BT).minimum(clipped_BT * advantages_BT)
    if dual is None:
        return loss_BT
    return loss_BT.minimum(-dual * advantages_BT).where(advantages_BT < 0, loss_BT)


def sequence_log_ratio(log_ratio_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """GSPO's ratio in logs: the mean over each sequence's masked tokens, repeated at every token.

    The gradient of every repetition spreads evenly over the sequence, so this form is for one
    advantage per sequence; use `sequence_token_log_ratio` for token advantages.

    Source: Zheng et al. 2025 (arXiv:2507.18071) eq. 7.
    """
    lengths_B = mask_BT.bool().sum(dim=1, keepdim=True).clamp(min=1)
    mean_B = masked(log_ratio_BT, mask_BT).sum(dim=1, keepdim=True) / lengths_B
    return mean_B.expand_as(log_ratio_BT)


def sequence_token_log_ratio(log_ratio_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """GSPO-token's ratio in logs: the value of the sequence ratio, the gradient of each token.

    Source: Zheng et al. 2025 (arXiv:2507.18071) eq. 14.
    """
    own_BT = masked(log_ratio_BT, mask_BT)
    return sequence_log_ratio(own_BT, mask_BT).detach() + own_BT - own_BT.detach()


def cispo_surrogate(
    policy_logprobs_BT: Tensor,
    log_ratio_BT: Tensor,
    advantages_BT: Tensor,
    *,
    low: float | None,
    high: float,
) -> Tensor:
    """CISPO: the clipped ratio is a constant weight, so no token ever loses its gradient.

    Args:
        low: None caps the weight only from above, as its authors run it.

    Source: MiniMax 2025 (arXiv:2506.13585) eqs. 4-5.
    """
    weights_BT = clipped_ratio(probability_ratio(log_ratio_BT.detach()), low=low, high=high)
    return -weights_BT * advantages_BT * policy_logprobs_BT


def importance_surrogate(log_ratio_BT: Tensor, advantages_BT: Tensor) -> Tensor:
    """Plain importance sampling, `-ratio A`, without a clip.

    Args:
        log_ratio_BT: [B, T] policy minus rollout.

    Source: Lu and Thinking Machines Lab 2025, "On-Policy Distillation".
    """
    return -probability_ratio(log_ratio_BT) * advantages_BT


def dppo_surrogate(
    policy_logprobs_BT: Tensor,
    rollout_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    *,
    threshold: float,
    kl_weight: float,
) -> Tensor:
    """Importance sampling that drops tokens whose probability already moved too far A's way.

    Args:
        threshold: bound on the change of probability (not of its ratio), in (0, 1].
        kl_weight: weight of the squared log-ratio, which every token keeps.

    Source: DPPO (arXiv:2602.04879), total-variation form.
    """
    log_ratio_BT = policy_logprobs_BT - rollout_logprobs_BT
    moved_BT = policy_logprobs_BT.detach().exp() - rollout_logprobs_BT.exp()
    dropped_BT = (moved_BT > threshold).where(advantages_BT > 0, moved_BT < -threshold)
    gain_BT = importance_surrogate(log_ratio_BT, advantages_BT).masked_fill(dropped_BT, 0.0)
    return gain_BT + kl_weight * log_ratio_BT.square()
