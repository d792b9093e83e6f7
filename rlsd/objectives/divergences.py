"""Distances from the policy to the teacher at each position: token losses [B, T] to minimise.

The teacher is constant; gradient flows through the policy alone. B and T may be any leading shape,
[N, V] for selected positions included. A sampled token's log-ratio enters as a policy gradient: its
derivative as a loss would not contain the teacher at all.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlsd.objectives.surrogates import probability_ratio

_LOG_ZERO = -1e4  # exp of it is 0, yet 0 * it is 0: impossible tokens add nothing, never NaN


def generalized_jsd(
    policy_logprobs_BTK: Tensor,
    teacher_logprobs_BTK: Tensor,
    *,
    beta: float,
    pointwise_clip: float | None = None,
) -> Tensor:
    """[B, T] nats, `beta KL(T||M) + (1-beta) KL(S||M)` with `M = beta T + (1-beta) S`.

    Args:
        policy_logprobs_BTK: S, normalised over the same K outcomes as the teacher's.
        beta: in [0, 1]; its limits are the forward KL(T||S) at 0 and the reverse KL(S||T) at 1.
        pointwise_clip: upper bound on each outcome's summand, nats. The sum can then be negative.

    Source: Agarwal et al. 2024 (arXiv:2306.13649); the clip is an option of OPSD's code.
    """
    policy_BTK = policy_logprobs_BTK.clamp(min=_LOG_ZERO)
    teacher_BTK = teacher_logprobs_BTK.detach().clamp(min=_LOG_ZERO)
    if beta == 0.0:
        terms_BTK = _kl_terms(teacher_BTK, policy_BTK)
    elif beta == 1.0:
        terms_BTK = _kl_terms(policy_BTK, teacher_BTK)
    else:
        mixture_BTK = torch.logaddexp(teacher_BTK + math.log(beta), policy_BTK + math.log1p(-beta))
        towards_teacher_BTK = _kl_terms(teacher_BTK, mixture_BTK)
        terms_BTK = beta * towards_teacher_BTK + (1.0 - beta) * _kl_terms(policy_BTK, mixture_BTK)
    if pointwise_clip is not None:
        terms_BTK = terms_BTK.clamp(max=pointwise_clip)
    return terms_BTK.sum(dim=-1)


def full_jsd(
    policy_logits_BTV: Tensor,
    teacher_logits_BTV: Tensor,
    *,
    beta: float,
    pointwise_clip: float | None = None,
) -> Tensor:
    """OPSD's divergence over the whole vocabulary; logits of both at the same temperature.

    Source: OPSD, as released (siyan-zhao/OPSD 590ec26).
    """
    return generalized_jsd(
        policy_logits_BTV.log_softmax(dim=-1),
        teacher_logits_BTV.log_softmax(dim=-1),
        beta=beta,
        pointwise_clip=pointwise_clip,
    )


def support_jsd(
    policy_logits_BTV: Tensor,
    support_ids_BTK: Tensor,
    teacher_support_logprobs_BTK: Tensor,
    *,
    beta: float,
    pointwise_clip: float | None = None,
) -> Tensor:
    """OPSD's divergence on K tokens, both distributions renormalised over them.

    Equals `full_jsd` when K = V. Tokens outside the support get no gradient.

    Args:
        support_ids_BTK: [B, T, K] distinct token ids, in OPSD the teacher's K likeliest.
        teacher_support_logprobs_BTK: [B, T, K] nats, the teacher at those ids.
    """
    return generalized_jsd(
        policy_logits_BTV.gather(-1, support_ids_BTK).log_softmax(dim=-1),
        teacher_support_logprobs_BTK.log_softmax(dim=-1),
        beta=beta,
        pointwise_clip=pointwise_clip,
    )


def support_tail_jsd(
    policy_logits_BTV: Tensor,
    support_ids_BTK: Tensor,
    teacher_support_logprobs_BTK: Tensor,
    *,
    alpha: float,
) -> Tensor:
    """SDPO's divergence over K tokens and one bucket that holds the mass of all the others.

    Equals `full_jsd` when K = V.

    Args:
        support_ids_BTK: [B, T, K] distinct token ids, in SDPO the student's K likeliest.
        teacher_support_logprobs_BTK: [B, T, K] nats, normalised over the vocabulary.
        alpha: 0 forward KL, 0.5 Jensen-Shannon, 1 reverse KL; the `beta` of `generalized_jsd`.

    Source: SDPO, as released (lasgroup/SDPO 0e6d510).
    """
    log_normaliser_BT = policy_logits_BTV.logsumexp(dim=-1, keepdim=True)
    policy_BTK = policy_logits_BTV.gather(-1, support_ids_BTK) - log_normaliser_BT
    teacher_BTK = teacher_support_logprobs_BTK
    if support_ids_BTK.shape[-1] < policy_logits_BTV.shape[-1]:
        policy_BTK = _with_tail(policy_BTK)
        teacher_BTK = _with_tail(teacher_BTK)
    return generalized_jsd(policy_BTK, teacher_BTK, beta=alpha)


def sampled_reverse_kl(policy_logprobs_BT: Tensor, teacher_logprobs_BT: Tensor) -> Tensor:
    """Reverse KL on sampled tokens, as the policy gradient `-sg(teacher - policy) policy`.

    The value is not the divergence; only the gradient has a meaning. OPSD's sampled form as it is,
    SDPO's when multiplied by `truncated_ratio`.

    Source: OPSD (siyan-zhao/OPSD 590ec26) and SDPO (lasgroup/SDPO 0e6d510), as released.
    """
    gap_BT = teacher_logprobs_BT.detach() - policy_logprobs_BT.detach()
    return -gap_BT * policy_logprobs_BT


def truncated_ratio(policy_logprobs_BT: Tensor, old_logprobs_BT: Tensor, *, cap: float) -> Tensor:
    """[B, T] constant `min(exp(policy - old), cap)`, SDPO's weight on every divergence term.

    Source: SDPO, as released (lasgroup/SDPO 0e6d510).
    """
    log_ratio_BT = policy_logprobs_BT.detach() - old_logprobs_BT.detach()
    return probability_ratio(log_ratio_BT).clamp(max=cap)


def token_entropy(logits_BTV: Tensor) -> Tensor:
    """[B, T] nats, entropy of each next-token distribution."""
    logprobs_BTV = logits_BTV.log_softmax(dim=-1).clamp(min=_LOG_ZERO)
    return -(logprobs_BTV.exp() * logprobs_BTV).sum(dim=-1)


def _kl_terms(logprobs_BTK: Tensor, other_logprobs_BTK: Tensor) -> Tensor:
    """[B, T, K] summands of KL(p || q)."""
    return logprobs_BTK.exp() * (logprobs_BTK - other_logprobs_BTK)


def _with_tail(logprobs_BTK: Tensor) -> Tensor:
    """[B, T, K+1] the same log-probs and that of everything else."""
    # Rounding can push the support's mass to 1 or past it; the tail keeps one unit of it.
    eps = torch.finfo(logprobs_BTK.dtype).eps
    log_mass_BT = logprobs_BTK.logsumexp(dim=-1, keepdim=True).clamp(max=-eps)
    return torch.cat([logprobs_BTK, (-log_mass_BT.expm1()).log()], dim=-1)
