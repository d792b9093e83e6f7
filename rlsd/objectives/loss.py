"""The one loss of the learner: a `Method` applied to a batch.

`objective` composes the parts in a fixed order: token credit, mismatch weight, surrogate,
divergence, reduction. It sees one microbatch and divides by the denominators of the whole step, so
losses and gradients of microbatches add up to those of the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import assert_never

import torch
from torch import Tensor

from rlsd.objectives import advantages, credit, divergences, mismatch, reductions, surrogates
from rlsd.objectives.methods import (
    AdvantageKind,
    CreditKind,
    DivergenceKind,
    Method,
    MismatchKind,
    Reduction,
    StudentSource,
    SurrogateKind,
)
from rlsd.objectives.metrics import sequence_metric, split_metric, token_metric
from rlsd.objectives.reductions import masked


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveBatch:
    """A microbatch without its gradient. Outside the mask every [B, T] tensor may hold anything."""

    advantages_B: Tensor
    """From `group_advantages`, computed over whole groups before they are cut into microbatches."""
    mask_BT: Tensor
    """bool, True on completion tokens."""
    old_logprobs_BT: Tensor
    """Nats, by the learner before the first step on the batch."""
    rollout_logprobs_BT: Tensor
    """Nats, by the sampler."""
    teacher_logprobs_BT: Tensor | None = None
    """Nats, sampled tokens under the privileged context."""
    student_logprobs_BT: Tensor | None = None
    """Nats, by the teacher's engine and weights on the plain prompt."""
    teacher_available_B: Tensor | None = None
    """bool, False on rows that no teacher scored; None means that all are scored."""
    support_ids_BTK: Tensor | None = None
    teacher_support_logprobs_BTK: Tensor | None = None
    """Nats, the teacher at `support_ids_BTK`, normalised over the vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denominators:
    """Counts over the whole step: all ranks, microbatches, and groups of `ZeroVariance.REJECT`."""

    num_tokens: float
    """Completion tokens."""
    num_sequences: float
    """Trajectories."""
    horizon_tokens: float = 0
    """The longest completion allowed; needed by `Reduction.HORIZON_MEAN`."""
    num_taught_tokens: float | None = None
    """Completion tokens of trajectories with a teacher: the divergence's. None: all of them."""
    num_taught_sequences: float | None = None
    """Trajectories with a teacher. None: all of them."""

    def of_taught(self) -> Denominators:
        """The denominators of a loss that only trajectories with a teacher take part in."""
        tokens, sequences = self.num_taught_tokens, self.num_taught_sequences
        return replace(
            self,
            num_tokens=self.num_tokens if tokens is None else tokens,
            num_sequences=self.num_sequences if sequences is None else sequences,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What one microbatch contributes."""

    total: Tensor
    """Scalar with gradient; the step's loss is the sum over microbatches."""
    metrics: dict[str, Tensor]
    """[2] sum and weight: add over microbatches and ranks, then `mean_metrics`."""
    maxima: dict[str, Tensor]
    """Scalars: take the maximum over microbatches and ranks."""
    counts: dict[str, Tensor]
    """Scalars: add over microbatches and ranks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Credit:
    """Token advantages and, where the teacher had a part in them, how."""

    advantages_BT: Tensor
    delta_BT: Tensor | None = None
    weights_BT: Tensor | None = None


def group_advantages(
    method: Method, rewards_B: Tensor, group_ids_B: Tensor, valid_B: Tensor
) -> Tensor:
    """[B] the method's advantages; see `advantages` for the arguments."""
    match method.advantage:
        case AdvantageKind.NONE:
            return torch.zeros_like(reductions.at_least_float32(rewards_B))
        case AdvantageKind.GRPO:
            return advantages.grpo_advantages(rewards_B, group_ids_B, valid_B, ddof=method.ddof)
        case AdvantageKind.DR_GRPO:
            return advantages.dr_grpo_advantages(rewards_B, group_ids_B, valid_B)
        case AdvantageKind.RLOO:
            return advantages.rloo_advantages(rewards_B, group_ids_B, valid_B)
        case AdvantageKind.MAXRL:
            return advantages.maxrl_advantages(rewards_B, group_ids_B, valid_B)
        case _:
            assert_never(method.advantage)


def objective(  # noqa: PLR0913 - the composition itself: what is learned, from what, under what
    method: Method,
    batch: ObjectiveBatch,
    policy_logprobs_BT: Tensor,
    policy_logits_BTV: Tensor | None = None,
    *,
    lam: float,
    denominators: Denominators,
    generator: torch.Generator | None = None,
) -> Loss:
    """The method's loss on a microbatch.

    Args:
        policy_logprobs_BT: [B, T] nats, sampled tokens under the policy now; carries the gradient.
        policy_logits_BTV: [B, T, V] logits of the same pass at the sampling temperature; carries
            the gradient. Needed by a divergence on a support; otherwise optional, for the entropy.
        lam: share of token-level credit at this step, from `lambda_at`. At 0 no teacher is needed.
        denominators: counts of the whole step.
        generator: needed by `method.permute`, which draws from it.

    Raises:
        ValueError: the method needs something that was not given.
    """
    batch, policy_BT = _masked_batch(batch), masked(policy_logprobs_BT, batch.mask_BT)
    token_credit = _token_credit(method, batch, policy_BT.detach(), lam=lam, generator=generator)
    mismatch_BT = _mismatch_weights(method, batch)
    metrics = _batch_metrics(batch, policy_BT.detach()) | _credit_metrics(
        method, batch, token_credit
    )
    total = policy_BT.new_zeros(())
    if method.surrogate is not SurrogateKind.NONE:
        log_ratio_BT = _log_ratio(method, batch, policy_BT)
        loss_BT = _surrogate_loss(
            method, batch, policy_BT, log_ratio_BT, token_credit.advantages_BT
        )
        total = total + _reduced(method, mismatch_BT * loss_BT, batch.mask_BT, denominators)
        metrics |= _clip_metrics(method, batch, log_ratio_BT.detach(), token_credit.advantages_BT)
    if method.divergence is not DivergenceKind.NONE:
        taught_BT = _taught(batch)
        divergence_BT = _divergence_loss(method, batch, policy_BT, policy_logits_BTV)
        distance = _reduced(
            method, mismatch_BT * divergence_BT, taught_BT, denominators.of_taught()
        )
        total = total + method.divergence_weight * distance
        metrics["divergence"] = token_metric(divergence_BT, taught_BT)
    if policy_logits_BTV is not None:
        metrics |= _entropy_metrics(batch, policy_logits_BTV.detach())
    counts = _credit_counts(batch, token_credit)
    return Loss(total=total, metrics=metrics, maxima=_gap_maxima(batch), counts=counts)


def _masked_batch(batch: ObjectiveBatch) -> ObjectiveBatch:
    """The batch with 0 outside the mask: 0 times a NaN gradient is NaN, so none may be made."""
    mask_BT = batch.mask_BT.bool()
    cleared = replace(
        batch,
        mask_BT=mask_BT,
        advantages_B=reductions.at_least_float32(batch.advantages_B.detach()),
        old_logprobs_BT=masked(batch.old_logprobs_BT.detach(), mask_BT),
        rollout_logprobs_BT=masked(batch.rollout_logprobs_BT.detach(), mask_BT),
    )
    taught_BT = _taught(cleared)
    if batch.teacher_logprobs_BT is not None:
        teacher_BT = masked(batch.teacher_logprobs_BT.detach(), taught_BT)
        cleared = replace(cleared, teacher_logprobs_BT=teacher_BT)
    return cleared


def _taught(batch: ObjectiveBatch) -> Tensor:
    """[B, T] bool, completion tokens of rows that the teacher scored."""
    if batch.teacher_available_B is None:
        return batch.mask_BT
    return batch.mask_BT & batch.teacher_available_B.bool()[:, None]


def _token_credit(
    method: Method,
    batch: ObjectiveBatch,
    policy_BT: Tensor,
    *,
    lam: float,
    generator: torch.Generator | None,
) -> _Credit:
    advantages_B, mask_BT = batch.advantages_B, batch.mask_BT
    plain = _Credit(advantages_BT=masked(advantages_B[:, None].expand(mask_BT.shape), mask_BT))
    if method.credit is CreditKind.NONE:
        return plain
    if method.credit is CreditKind.RLSD and lam == 0.0 and batch.teacher_logprobs_BT is None:
        return plain
    delta_BT = _delta(method, batch, policy_BT, generator=generator)
    match method.credit:
        case CreditKind.RLSD:
            weights_BT = credit.rlsd_weights(
                delta_BT, advantages_B, negative_only=method.negative_only
            )
            token_BT = credit.reweighted_advantages(
                advantages_B, weights_BT, mask_BT, lam=lam, eps_w=method.eps_w
            )
            return _Credit(advantages_BT=token_BT, delta_BT=delta_BT, weights_BT=weights_BT)
        case CreditKind.OPD:
            return _Credit(advantages_BT=method.teacher_weight * delta_BT, delta_BT=delta_BT)
        case CreditKind.ADDITIVE:
            token_BT = credit.additive_token_advantages(
                advantages_B, delta_BT, mask_BT, teacher_weight=method.teacher_weight
            )
            return _Credit(advantages_BT=token_BT, delta_BT=delta_BT)
        case _:
            assert_never(method.credit)


def _delta(
    method: Method, batch: ObjectiveBatch, policy_BT: Tensor, *, generator: torch.Generator | None
) -> Tensor:
    """[B, T] nats, what the teacher knows of each token, permuted if the method is a control."""
    teacher_BT = _given(batch.teacher_logprobs_BT, method, "teacher_logprobs_BT")
    student_BT = _student_logprobs(method, batch, policy_BT)
    delta_BT = credit.teacher_delta(student_BT, teacher_BT, _taught(batch))
    if not method.permute:
        return delta_BT
    if generator is None:
        raise ValueError("permute draws random numbers: objective needs a generator")
    return credit.permute_within_sequence(delta_BT, batch.mask_BT, generator=generator)


def _student_logprobs(method: Method, batch: ObjectiveBatch, policy_BT: Tensor) -> Tensor:
    if method.credit is CreditKind.OPD:
        # The reverse KL is paid where tokens were drawn, so against their sampler.
        return batch.rollout_logprobs_BT
    match method.student_source:
        case StudentSource.SCORER:
            return _given(batch.student_logprobs_BT, method, "student_logprobs_BT")
        case StudentSource.OLD:
            return batch.old_logprobs_BT
        case StudentSource.CURRENT:
            return policy_BT
        case _:
            assert_never(method.student_source)


def _log_ratio(method: Method, batch: ObjectiveBatch, policy_BT: Tensor) -> Tensor:
    """[B, T] nats, the ratio that the method's surrogate is made of."""
    match method.surrogate:
        case SurrogateKind.IMPORTANCE | SurrogateKind.DPPO:
            return policy_BT - batch.rollout_logprobs_BT
        case SurrogateKind.GSPO:
            return surrogates.sequence_log_ratio(policy_BT - batch.old_logprobs_BT, batch.mask_BT)
        case SurrogateKind.GSPO_TOKEN:
            token_log_ratio_BT = policy_BT - batch.old_logprobs_BT
            return surrogates.sequence_token_log_ratio(token_log_ratio_BT, batch.mask_BT)
        case SurrogateKind.PPO | SurrogateKind.CISPO | SurrogateKind.NONE:
            return policy_BT - batch.old_logprobs_BT
        case _:
            assert_never(method.surrogate)


def _surrogate_loss(
    method: Method,
    batch: ObjectiveBatch,
    policy_BT: Tensor,
    log_ratio_BT: Tensor,
    advantages_BT: Tensor,
) -> Tensor:
    low, high = method.clip_low, method.clip_high
    match method.surrogate:
        case SurrogateKind.PPO | SurrogateKind.GSPO | SurrogateKind.GSPO_TOKEN:
            return surrogates.clipped_surrogate(
                log_ratio_BT, advantages_BT, low=low, high=high, dual=method.dual_clip
            )
        case SurrogateKind.CISPO:
            return surrogates.cispo_surrogate(
                policy_BT, log_ratio_BT, advantages_BT, low=low, high=high
            )
        case SurrogateKind.IMPORTANCE:
            return surrogates.importance_surrogate(log_ratio_BT, advantages_BT)
        case SurrogateKind.DPPO:
            return surrogates.dppo_surrogate(
                policy_BT,
                batch.rollout_logprobs_BT,
                advantages_BT,
                threshold=method.dppo_threshold,
                kl_weight=method.dppo_kl_weight,
            )
        case SurrogateKind.NONE:
            return torch.zeros_like(policy_BT)
        case _:
            assert_never(method.surrogate)


def _mismatch_weights(method: Method, batch: ObjectiveBatch) -> Tensor:
    """[B, T] constants that multiply the token losses."""
    old_BT, rollout_BT, mask_BT = batch.old_logprobs_BT, batch.rollout_logprobs_BT, batch.mask_BT
    low, high = method.mismatch_low, method.mismatch_high
    match method.mismatch:
        case MismatchKind.NONE:
            return torch.ones_like(old_BT)
        case MismatchKind.DECOUPLED:
            return mismatch.decoupled_weights(old_BT, rollout_BT, mask_BT)
        case MismatchKind.TOKEN_TIS:
            return mismatch.token_tis(old_BT, rollout_BT, mask_BT, cap=high)
        case MismatchKind.SEQUENCE_TIS:
            return mismatch.sequence_tis(old_BT, rollout_BT, mask_BT, cap=high)
        case MismatchKind.SEQUENCE_MIS:
            return mismatch.sequence_mis(old_BT, rollout_BT, mask_BT, cap=high)
        case MismatchKind.GEOMETRIC:
            return mismatch.geometric_rejection(old_BT, rollout_BT, mask_BT, low=low, high=high)
        case MismatchKind.ICEPOP:
            return mismatch.icepop(old_BT, rollout_BT, mask_BT, low=low, high=high)
        case _:
            assert_never(method.mismatch)


def _divergence_loss(
    method: Method, batch: ObjectiveBatch, policy_BT: Tensor, policy_logits_BTV: Tensor | None
) -> Tensor:
    """[B, T] distances to the teacher, 0 where there is none."""
    taught_BT = _taught(batch)
    if method.divergence is DivergenceKind.SAMPLED:
        teacher_BT = _given(batch.teacher_logprobs_BT, method, "teacher_logprobs_BT")
        loss_BT = divergences.sampled_reverse_kl(policy_BT, teacher_BT)
    else:
        loss_N = _support_divergence(method, batch, policy_logits_BTV)
        loss_BT = loss_N.new_zeros(taught_BT.shape).masked_scatter(taught_BT, loss_N)
    if method.ratio_cap is None:
        return loss_BT
    return loss_BT * divergences.truncated_ratio(
        policy_BT, batch.old_logprobs_BT, cap=method.ratio_cap
    )


def _support_divergence(
    method: Method, batch: ObjectiveBatch, policy_logits_BTV: Tensor | None
) -> Tensor:
    """[N] divergences at the N taught tokens, the only rows whose vocabulary is worth visiting."""
    taught_BT = _taught(batch)
    logits_NV = _given(policy_logits_BTV, method, "policy_logits_BTV")[taught_BT]
    ids_NK = _given(batch.support_ids_BTK, method, "support_ids_BTK")[taught_BT]
    teacher_NK = _given(batch.teacher_support_logprobs_BTK, method, "teacher_support_logprobs_BTK")[
        taught_BT
    ]
    logits_NV = reductions.at_least_float32(logits_NV)
    teacher_NK = reductions.at_least_float32(teacher_NK)
    if method.divergence is DivergenceKind.JSD_TAIL:
        return divergences.support_tail_jsd(logits_NV, ids_NK, teacher_NK, alpha=method.alpha)
    return divergences.support_jsd(
        logits_NV, ids_NK, teacher_NK, beta=method.beta, pointwise_clip=method.pointwise_clip
    )


def _reduced(
    method: Method, token_loss_BT: Tensor, mask_BT: Tensor, denominators: Denominators
) -> Tensor:
    match method.reduction:
        case Reduction.TOKEN_MEAN:
            return reductions.token_mean(token_loss_BT, mask_BT, num_tokens=denominators.num_tokens)
        case Reduction.SEQUENCE_MEAN:
            return reductions.sequence_mean(
                token_loss_BT, mask_BT, num_sequences=denominators.num_sequences
            )
        case Reduction.HORIZON_MEAN:
            return reductions.horizon_mean(
                token_loss_BT,
                mask_BT,
                num_sequences=denominators.num_sequences,
                horizon_tokens=denominators.horizon_tokens,
            )
        case _:
            assert_never(method.reduction)


def _batch_metrics(batch: ObjectiveBatch, policy_BT: Tensor) -> dict[str, Tensor]:
    gap_BT = batch.old_logprobs_BT - batch.rollout_logprobs_BT
    importance_BT = surrogates.probability_ratio(gap_BT)
    return {
        "kl_old_policy": token_metric(_k3(policy_BT - batch.old_logprobs_BT), batch.mask_BT),
        "kl_rollout_old": token_metric(_k3(gap_BT), batch.mask_BT),
        "rollout_gap": token_metric(gap_BT.abs(), batch.mask_BT),
        "importance": token_metric(importance_BT, batch.mask_BT),
        "importance_squared": token_metric(importance_BT.square(), batch.mask_BT),
    }


def _k3(log_ratio_BT: Tensor) -> Tensor:
    """The estimate r - 1 - log r: never negative, unlike -log r, and with the same expectation."""
    return surrogates.probability_ratio(log_ratio_BT) - 1.0 - log_ratio_BT


def _gap_maxima(batch: ObjectiveBatch) -> dict[str, Tensor]:
    """How far sampler and learner are apart on single tokens; the 99th percentile is this part's.

    Over several microbatches the largest of their percentiles is reported.
    """
    gaps = (batch.old_logprobs_BT - batch.rollout_logprobs_BT).abs()[batch.mask_BT]
    if not gaps.numel():
        return {name: gaps.new_zeros(()) for name in ("rollout_gap", "rollout_gap_p99")}
    rank = max(1, math.ceil(0.99 * gaps.numel()))
    return {"rollout_gap": gaps.max(), "rollout_gap_p99": gaps.kthvalue(rank).values}


def _credit_metrics(
    method: Method, batch: ObjectiveBatch, token_credit: _Credit
) -> dict[str, Tensor]:
    """How far the teacher moved the credit, over the tokens it scored."""
    delta_BT, weights_BT = token_credit.delta_BT, token_credit.weights_BT
    if delta_BT is None:
        return {}
    advantages_B, taught_BT = batch.advantages_B, _taught(batch)
    metrics = split_metric("delta", delta_BT, taught_BT, advantages_B)
    metrics |= split_metric("delta_abs", delta_BT.abs(), taught_BT, advantages_B)
    if weights_BT is None:
        return metrics
    directed_BT = taught_BT & (advantages_B != 0)[:, None]
    movement_BT = token_credit.advantages_BT.abs() / advantages_B.abs()[:, None]
    for name, values_BT in (
        ("weight", weights_BT),
        ("weight_clipped_low", weights_BT < 1.0 - method.eps_w),
        ("weight_clipped_high", weights_BT > 1.0 + method.eps_w),
        ("advantage_ratio", movement_BT),
    ):
        metrics |= split_metric(name, values_BT, directed_BT, advantages_B)
    entropy_B = credit.weight_entropy_ratio(weights_BT, directed_BT)
    metrics["weight_entropy"] = sequence_metric(entropy_B, directed_BT.sum(1) > 1)
    return metrics


def _credit_counts(batch: ObjectiveBatch, token_credit: _Credit) -> dict[str, Tensor]:
    """Tokens that are pushed against their trajectory's verdict: RLSD has none by construction."""
    if token_credit.delta_BT is None:
        return {}
    signs_BT = token_credit.advantages_BT.sign() * batch.advantages_B.sign()[:, None]
    return {"sign_flips": ((signs_BT < 0) & batch.mask_BT).sum()}


def _clip_metrics(
    method: Method, batch: ObjectiveBatch, log_ratio_BT: Tensor, advantages_BT: Tensor
) -> dict[str, Tensor]:
    """Share of tokens whose ratio the surrogate holds back, below and above."""
    if method.surrogate in (SurrogateKind.IMPORTANCE, SurrogateKind.DPPO):
        return {}
    ratio_BT = surrogates.probability_ratio(log_ratio_BT)
    above_BT = ratio_BT > 1.0 + method.clip_high
    below_BT = torch.zeros_like(above_BT)
    if method.clip_low is not None:
        below_BT = ratio_BT < 1.0 - method.clip_low
    if method.surrogate is not SurrogateKind.CISPO:
        # PPO's minimum ignores a bound that the advantage pushes away from.
        above_BT, below_BT = above_BT & (advantages_BT > 0), below_BT & (advantages_BT < 0)
    return {
        "ratio_clipped_low": token_metric(below_BT, batch.mask_BT),
        "ratio_clipped_high": token_metric(above_BT, batch.mask_BT),
    }


def _entropy_metrics(batch: ObjectiveBatch, policy_logits_BTV: Tensor) -> dict[str, Tensor]:
    logits_NV = reductions.at_least_float32(policy_logits_BTV[batch.mask_BT])
    entropy_N = divergences.token_entropy(logits_NV)
    entropy_BT = entropy_N.new_zeros(batch.mask_BT.shape).masked_scatter(batch.mask_BT, entropy_N)
    return split_metric("entropy", entropy_BT, batch.mask_BT, batch.advantages_B)


def _given(tensor: Tensor | None, method: Method, name: str) -> Tensor:
    if tensor is None:
        raise ValueError(
            f"credit '{method.credit}' with divergence '{method.divergence}' needs {name}"
        )
    return tensor
