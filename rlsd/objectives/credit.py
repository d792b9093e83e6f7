"""Token credit: from one advantage per trajectory to one per token, with the teacher's help.

Delta, in nats, is how much likelier the teacher finds a sampled token than the student does. Every
result is detached: credit scales or shifts the policy gradient and never carries one of its own.

    delta_BT     = teacher - student, 0 where no teacher scored the token
    weights_BT   = exp(sign(A) delta)
    advantages_BT = A (1 + lam (clip(w, 1 - eps_w, 1 + eps_w) - 1))

Positions outside the mask may hold anything, NaN and infinities included; they get exactly 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlsd.objectives.reductions import at_least_float32, masked


def rlsd_token_advantages(
    advantages_B: Tensor,
    student_logprobs_BT: Tensor,
    teacher_logprobs_BT: Tensor,
    mask_BT: Tensor,
    *,
    lam: float,
    eps_w: float,
) -> Tensor:
    """RLSD: the verdict's sign and scale, redistributed over tokens by the teacher's evidence.

    `sign(A_t) = sign(A)` and `|A| (1 - lam eps_w) <= |A_t| <= |A| (1 + lam eps_w)`. With `lam = 0`,
    or a teacher that agrees with the student, A_t is A to the bit.

    Args:
        advantages_B: [B] one advantage for each trajectory.
        student_logprobs_BT: [B, T] nats, sampled tokens under the policy on the plain prompt.
        teacher_logprobs_BT: [B, T] nats, the same tokens under the privileged context.
        mask_BT: [B, T] bool or 0/1, True on completion tokens.
        lam: share of token-level credit, in [0, 1].
        eps_w: half-width of the clip on the weight, in [0, 1].

    Returns:
        [B, T] detached, float32 or wider, 0 outside the mask.

    Source: RLSD (arXiv:2604.03128) eqs. 13-15 and algorithm 1, line 17.
    """
    delta_BT = teacher_delta(student_logprobs_BT, teacher_logprobs_BT, mask_BT)
    weights_BT = rlsd_weights(delta_BT, advantages_B)
    return reweighted_advantages(advantages_B, weights_BT, mask_BT, lam=lam, eps_w=eps_w)


def teacher_delta(
    student_logprobs_BT: Tensor, teacher_logprobs_BT: Tensor, scored_BT: Tensor
) -> Tensor:
    """[B, T] nats, teacher minus student where `scored_BT` is True, else exactly 0.

    Args:
        scored_BT: [B, T] completion tokens that the teacher scored. A row without a teacher is all
            False: its delta is 0, its weight 1, its credit the plain advantage.

    Source: RLSD (arXiv:2604.03128) eq. 13.
    """
    # Each side is cleared before the subtraction: junk minus junk may be NaN.
    teacher_BT = masked(teacher_logprobs_BT.detach(), scored_BT)
    return teacher_BT - masked(student_logprobs_BT.detach(), scored_BT)


def rlsd_weights(delta_BT: Tensor, advantages_B: Tensor, *, negative_only: bool = False) -> Tensor:
    """[B, T] unclipped weights `exp(sign(A) delta)`; 1 on every token of a row with A = 0.

    Args:
        delta_BT: [B, T] nats, from `teacher_delta`.
        advantages_B: [B], only their sign is read.
        negative_only: reweight failed trajectories alone; the others keep weight 1.

    Source: RLSD (arXiv:2604.03128) eq. 14; `negative_only` is an option of its released code.
    """
    sign_B = advantages_B.detach().sign()
    if negative_only:
        sign_B = sign_B.clamp(max=0)
    exponent_BT = sign_B[:, None] * delta_BT
    # 0 times an infinite delta is NaN; no direction means weight 1.
    return exponent_BT.masked_fill((sign_B == 0)[:, None], 0.0).exp()


def reweighted_advantages(
    advantages_B: Tensor, weights_BT: Tensor, mask_BT: Tensor, *, lam: float, eps_w: float
) -> Tensor:
    """[B, T] `A ((1 - lam) + lam clip(w))`, 0 outside the mask.

    Source: RLSD (arXiv:2604.03128) eq. 15 and algorithm 1, line 17.
    """
    clipped_BT = weights_BT.clamp(1.0 - eps_w, 1.0 + eps_w)
    # This form of the blend is exactly 1 for w = 1 and for lam = 0.
    blend_BT = 1.0 + lam * (clipped_BT - 1.0)
    return masked(advantages_B.detach()[:, None] * blend_BT, mask_BT)


def weight_entropy_ratio(weights_BT: Tensor, where_BT: Tensor) -> Tensor:
    """[B] `H(w / sum w) / log T` over the T tokens that are True; 1 where all weigh the same.

    It falls towards 0 as a few tokens take all of the weight. 1 also where T < 2.

    Args:
        weights_BT: [B, T] from `rlsd_weights`, unclipped.
    """
    where_BT = where_BT.bool()
    # Weights are exponentials of nats: their logarithm is what a softmax can take without overflow.
    logits_BT = weights_BT.detach().log().clamp(-80.0, 80.0).masked_fill(~where_BT, -torch.inf)
    num_B = where_BT.sum(1)
    some_B = num_B > 1
    shares_BT = logits_BT.masked_fill(~some_B[:, None], 0.0).softmax(1)
    ratio_B = torch.special.entr(shares_BT).sum(1) / num_B.clamp(min=2).log()
    return torch.where(some_B, ratio_B, torch.ones_like(ratio_B))


def permute_within_sequence(
    delta_BT: Tensor, mask_BT: Tensor, *, generator: torch.Generator
) -> Tensor:
    """[B, T] the masked values of each row in random order; what is outside the mask stays.

    The control for any token credit: the same values in the same sequence, aligned with nothing.
    A credit that does not beat it carries no information about tokens.
    """
    mask_BT = mask_BT.bool()
    keys_BT = torch.rand(delta_BT.shape, generator=generator, device=generator.device)
    # Keys are below 1, so the masked positions come first, in random order; a stable sort of the
    # mask lists the same positions in reading order.
    shuffled_BT = keys_BT.to(delta_BT.device).masked_fill(~mask_BT, 2.0).argsort(dim=1)
    ordered_BT = (~mask_BT).to(torch.uint8).argsort(dim=1, stable=True)
    permuted_BT = delta_BT.scatter(1, ordered_BT, delta_BT.gather(1, shuffled_BT))
    return torch.where(mask_BT, permuted_BT, delta_BT)


def opd_token_advantages(
    rollout_logprobs_BT: Tensor,
    teacher_logprobs_BT: Tensor,
    scored_BT: Tensor,
    *,
    teacher_weight: float = 1.0,
) -> Tensor:
    """On-policy distillation as reward: `-teacher_weight (rollout - teacher)`, without a verdict.

    Args:
        rollout_logprobs_BT: [B, T] nats, by the sampler, so its mean is the reverse KL being paid.
        scored_BT: [B, T] tokens that the teacher scored; the others get 0.

    Source: Lu and Thinking Machines Lab 2025, "On-Policy Distillation".
    """
    return teacher_weight * teacher_delta(rollout_logprobs_BT, teacher_logprobs_BT, scored_BT)


def additive_token_advantages(
    advantages_B: Tensor, delta_BT: Tensor, mask_BT: Tensor, *, teacher_weight: float
) -> Tensor:
    """Outcome plus distillation, `A + teacher_weight delta`; unlike RLSD's it can flip A's sign.

    Args:
        delta_BT: [B, T] nats, from `teacher_delta`, usually against the old policy.

    Source: KDRL (arXiv:2506.02208).
    """
    shifted_BT = at_least_float32(advantages_B.detach())[:, None] + teacher_weight * delta_BT
    return masked(shifted_BT, mask_BT)
