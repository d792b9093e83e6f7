"""Methods end to end: presets through `objective` reproduce the oracle."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsd.objectives import (
    PRESETS,
    Denominators,
    ObjectiveBatch,
    effective_share,
    group_advantages,
    lambda_at,
    mean_metrics,
    method_named,
    objective,
    rlsd_token_advantages,
)

TOKEN_STEP = Denominators(num_tokens=17, num_sequences=6, horizon_tokens=4)
VOCAB_STEP = Denominators(num_tokens=5, num_sequences=2)
SYMMETRIC = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": None}


def token_batch(token, method, **changes):
    batch = ObjectiveBatch(
        advantages_B=group_advantages(method, token.rewards, token.uid, token.valid),
        mask_BT=token.mask,
        old_logprobs_BT=token.old,
        rollout_logprobs_BT=token.roll,
        teacher_logprobs_BT=token.tea,
        student_logprobs_BT=token.ref,
    )
    return dataclasses.replace(batch, **changes)


def vocab_batch(vocab, *, support, **changes):
    batch = ObjectiveBatch(
        advantages_B=vocab.adv,
        mask_BT=vocab.mask,
        old_logprobs_BT=vocab.old.detach(),
        rollout_logprobs_BT=vocab.old.detach(),
        teacher_logprobs_BT=vocab.tea.detach(),
        support_ids_BTK=support,
        teacher_support_logprobs_BTK=vocab.tea_all.gather(-1, support),
    )
    return dataclasses.replace(batch, **changes)


def whole_vocabulary():
    return torch.arange(5).expand(2, 3, 5)


@pytest.mark.parametrize(
    ("entry", "name", "overrides"),
    [
        ("grpo_clip0.2_0.28_dual3_tokenmean", "grpo", {}),
        ("grpo_clip0.2_tokenmean", "grpo", SYMMETRIC),
        ("grpo_clip0.2_seqmean", "grpo", {**SYMMETRIC, "reduction": "sequence_mean"}),
        ("dr_grpo_clip0.2_norm4", "dr_grpo", {}),
        ("gspo_clip0.0003_0.0004", "gspo", {}),
        ("gspo_clip0.2_0.28", "gspo", {"clip_low": 0.2, "clip_high": 0.28}),
        ("cispo_upper_only_1.28", "cispo", {}),
        ("cispo_clamp0.8_1.28", "cispo", {"clip_low": 0.2}),
        ("grpo_tis2_tokenmean", "grpo", {**SYMMETRIC, "mismatch": "token_tis"}),
        ("grpo_icepop_tokenmean", "grpo", {**SYMMETRIC, "mismatch": "icepop"}),
        ("decoupled_ppo_raw", "grpo", {**SYMMETRIC, "mismatch": "decoupled"}),
        ("dppo_tv0.1_kl1e-3", "grpo", {"surrogate": "dppo", "dppo_threshold": 0.1}),
        ("rlsd_lam0_student_current", "rlsd", {"lam": 0.0, "student_source": "current"}),
        ("rlsd_lam0.25_student_current", "rlsd", {"lam": 0.25, "student_source": "current"}),
        ("rlsd_lam0.5_student_current", "rlsd", {"student_source": "current"}),
        ("rlsd_lam1_student_current", "rlsd", {"lam": 1.0, "student_source": "current"}),
        ("rlsd_lam0_student_old", "rlsd", {"lam": 0.0}),
        ("rlsd_lam0.25_student_old", "rlsd", {"lam": 0.25}),
        ("rlsd_lam0.5_student_old", "rlsd", {}),
        ("rlsd_lam1_student_old", "rlsd", {"lam": 1.0}),
        (
            "rlsd_lam0.5_gspo_token",
            "rlsd",
            {"surrogate": "gspo_token", "dual_clip": None, "reduction": "sequence_mean"},
        ),
        (
            "rlsd_lam0.5_paper_seqmean",
            "rlsd",
            {**SYMMETRIC, "student_source": "current", "reduction": "sequence_mean"},
        ),
        ("opd_tinker_sampled", "opd", {}),
        ("opsd_sampled_pg", "opsd", {"divergence": "sampled"}),
        (
            "grpo_plus_opsd_additive_mu0.1",
            "grpo",
            {**SYMMETRIC, "credit": "additive", "teacher_weight": 0.1},
        ),
        (
            "grpo_plus_opsd_additive_mu1",
            "grpo",
            {**SYMMETRIC, "credit": "additive", "teacher_weight": 1.0},
        ),
    ],
)
def test_a_method_on_sampled_tokens_reproduces_the_oracle(entry, name, overrides, token, oracle):
    method = method_named(name, **overrides)
    loss = objective(
        method, token_batch(token, method), token.cur, lam=method.lam, denominators=TOKEN_STEP
    )
    oracle.check(entry, loss.total, wrt=token.cur)


def test_dapo_reproduces_the_oracle_over_its_kept_group(token, oracle):
    method = method_named("dapo")
    kept = dataclasses.replace(TOKEN_STEP, num_tokens=13)
    loss = objective(method, token_batch(token, method), token.cur, lam=0.0, denominators=kept)
    oracle.check("dapo_clip0.2_0.28", loss.total, wrt=token.cur)


def test_rejected_groups_count_though_they_are_not_there(token, oracle):
    method = method_named("grpo")
    batch = token_batch(token, method)
    kept = dataclasses.replace(
        batch,
        advantages_B=batch.advantages_B[:4],
        mask_BT=token.mask[:4],
        old_logprobs_BT=token.old[:4],
        rollout_logprobs_BT=token.roll[:4],
        teacher_logprobs_BT=None,
        student_logprobs_BT=None,
    )
    loss = objective(method, kept, token.cur[:4], lam=0.0, denominators=TOKEN_STEP)
    oracle.check("grpo_clip0.2_0.28_dual3_tokenmean", loss.total, wrt=token.cur)


@pytest.mark.parametrize(
    ("entry", "name", "overrides"),
    [
        ("opsd_jsd0.5", "opsd", {}),
        ("opsd_forward_kl", "opsd", {"beta": 0.0}),
        ("opsd_reverse_kl", "opsd", {"beta": 1.0}),
        ("opsd_jsd0.5_seqmean", "opsd", {"reduction": "sequence_mean"}),
        ("opsd_forward_kl_pointclip0.05", "opsd", {"beta": 0.0, "pointwise_clip": 0.05}),
        ("sdpo_sampled_token", "sdpo", {"divergence": "sampled"}),
        ("grpo_plus_opsd_loss_level_mu0.1", "grpo+opsd", SYMMETRIC),
        ("grpo_plus_opsd_loss_level_mu1", "grpo+opsd", {**SYMMETRIC, "divergence_weight": 1.0}),
        ("rlsd_vocab_lam0.5", "rlsd", {}),
    ],
)
def test_a_method_on_the_vocabulary_reproduces_the_oracle(entry, name, overrides, vocab, oracle):
    method = method_named(name, **overrides)
    batch = vocab_batch(vocab, support=whole_vocabulary())
    loss = objective(
        method, batch, vocab.cur, vocab.cur_logits, lam=method.lam, denominators=VOCAB_STEP
    )
    oracle.check(entry, loss.total, wrt=vocab.cur_logits, key="dloss_dlogits")


def test_opsd_on_the_teachers_support_reproduces_the_oracle(vocab, oracle):
    batch = vocab_batch(vocab, support=vocab.tea_logits.topk(2, dim=-1).indices)
    loss = objective(
        method_named("opsd"), batch, vocab.cur, vocab.cur_logits, lam=0, denominators=VOCAB_STEP
    )
    entry = "opsd_jsd0.5_teacher_top2_renorm"
    oracle.check(entry, loss.total, wrt=vocab.cur_logits, key="dloss_dlogits")


@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_sdpo_reproduces_the_oracle(alpha, vocab, oracle):
    batch = vocab_batch(vocab, support=vocab.cur_logits.detach().topk(2, dim=-1).indices)
    method = method_named("sdpo", alpha=float(alpha))
    loss = objective(method, batch, vocab.cur, vocab.cur_logits, lam=0, denominators=VOCAB_STEP)
    entry = f"sdpo_top2_tail_alpha{alpha}"
    oracle.check(entry, loss.total, wrt=vocab.cur_logits, key="dloss_dlogits")


def test_sdpo_without_a_demonstration_reproduces_the_oracle(vocab, oracle):
    batch = vocab_batch(
        vocab, support=whole_vocabulary(), teacher_available_B=torch.tensor([True, False])
    )
    batch.teacher_support_logprobs_BTK[1] = torch.nan  # nothing was scored there
    step = dataclasses.replace(VOCAB_STEP, num_taught_tokens=3, num_taught_sequences=1)
    loss = objective(
        method_named("sdpo"), batch, vocab.cur, vocab.cur_logits, lam=0, denominators=step
    )
    entry = "sdpo_full_alpha0.5_second_sample_without_target"
    oracle.check(entry, loss.total, wrt=vocab.cur_logits, key="dloss_dlogits")


def test_the_teacher_of_rlsd_gives_no_direction(vocab):
    method = method_named("rlsd")
    batch = vocab_batch(vocab, support=whole_vocabulary())
    loss = objective(method, batch, vocab.cur, lam=0.5, denominators=VOCAB_STEP)
    (gradient,) = torch.autograd.grad(loss.total, vocab.cur_logits, retain_graph=True)
    credit = rlsd_token_advantages(vocab.adv, vocab.old, vocab.tea, vocab.mask, lam=0.5, eps_w=0.2)
    ratio = (vocab.cur - vocab.old).exp()
    onehot = torch.nn.functional.one_hot(vocab.ids, 5).double()
    direction = onehot - vocab.cur_logits.softmax(-1)
    expected = -(credit * ratio)[..., None] * direction / 5
    torch.testing.assert_close(gradient, expected.detach())


@pytest.mark.parametrize("source", ["old", "current", "scorer"])
def test_rlsd_at_lambda_zero_is_grpo_to_the_bit(source, token):
    def gradient_of(name, **overrides):
        method = method_named(name, **overrides)
        batch = token_batch(token, method)
        loss = objective(method, batch, token.cur, lam=0.0, denominators=TOKEN_STEP)
        return loss.total, *torch.autograd.grad(loss.total, token.cur)

    total, gradient = gradient_of("rlsd", student_source=source)
    grpo_total, grpo_gradient = gradient_of("grpo")
    assert torch.equal(total, grpo_total)
    assert torch.equal(gradient, grpo_gradient)


def test_rlsd_after_its_decay_needs_no_teacher(token):
    method = method_named("rlsd")
    batch = token_batch(token, method, teacher_logprobs_BT=None)
    lam = lambda_at(50, lam=method.lam, decay_steps=method.decay_steps)
    loss = objective(method, batch, token.cur, lam=lam, denominators=TOKEN_STEP)
    assert loss.total.isfinite()
    with pytest.raises(ValueError, match="needs teacher_logprobs_BT"):
        objective(method, batch, token.cur, lam=0.01, denominators=TOKEN_STEP)


def test_the_scorers_student_is_used_when_asked_for(token):
    method = method_named("rlsd", student_source="scorer")
    batch = token_batch(token, method)
    loss = objective(method, batch, token.cur, lam=0.5, denominators=TOKEN_STEP)
    as_old = method_named("rlsd")
    same = objective(
        as_old, token_batch(token, as_old), token.cur, lam=0.5, denominators=TOKEN_STEP
    )
    assert loss.total != same.total
    with pytest.raises(ValueError, match="needs student_logprobs_BT"):
        objective(
            method,
            dataclasses.replace(batch, student_logprobs_BT=None),
            token.cur,
            lam=0.5,
            denominators=TOKEN_STEP,
        )


def test_the_oracle_would_catch_a_teacher_and_student_swapped(token, oracle):
    method = method_named("rlsd")
    swapped = token_batch(token, method, teacher_logprobs_BT=2 * token.old - token.tea)
    loss = objective(method, swapped, token.cur, lam=0.5, denominators=TOKEN_STEP)
    with pytest.raises(AssertionError):
        oracle.check("rlsd_lam0.5_student_old", loss.total, wrt=token.cur)


def test_the_permuted_control_differs_repeats_and_needs_a_generator(token):
    method = method_named("rlsd", permute=True)
    batch = token_batch(token, method)

    def total(generator):
        return objective(
            method, batch, token.cur, lam=1.0, denominators=TOKEN_STEP, generator=generator
        ).total

    aligned = objective(
        method_named("rlsd"), batch, token.cur, lam=1.0, denominators=TOKEN_STEP
    ).total
    assert total(torch.Generator().manual_seed(3)) == total(torch.Generator().manual_seed(3))
    assert any(total(torch.Generator().manual_seed(seed)) != aligned for seed in range(5))
    with pytest.raises(ValueError, match="needs a generator"):
        total(None)


def random_batch(seed, *, num_rows=6, num_tokens=5, num_vocab=7):
    """A batch that every method can run on, with junk wherever nothing may be read."""
    torch.manual_seed(seed)
    shape = (num_rows, num_tokens)
    mask = torch.rand(shape) < 0.7
    mask[0] = False
    logits = torch.randn(*shape, num_vocab, dtype=torch.float64)
    ids = torch.randint(num_vocab, shape)
    available = torch.rand(num_rows) < 0.6
    taught = mask & available[:, None]
    junk = torch.tensor([torch.nan, torch.inf, -torch.inf, -99.0])

    def logprobs(where):
        values = -torch.rand(shape, dtype=torch.float64) * 3
        return torch.where(where, values, junk[torch.randint(4, shape)].double())

    support = torch.rand(*shape, num_vocab).topk(3, dim=-1).indices
    teacher = torch.randn(*shape, num_vocab, dtype=torch.float64).log_softmax(-1)
    batch = ObjectiveBatch(
        advantages_B=torch.randn(num_rows, dtype=torch.float64).round(decimals=1),
        mask_BT=mask,
        old_logprobs_BT=logprobs(mask),
        rollout_logprobs_BT=logprobs(mask),
        teacher_logprobs_BT=logprobs(taught),
        student_logprobs_BT=logprobs(taught),
        teacher_available_B=available,
        support_ids_BTK=support,
        teacher_support_logprobs_BTK=torch.where(
            taught[..., None], teacher.gather(-1, support), torch.nan
        ),
    )
    step = Denominators(
        num_tokens=int(mask.sum()),
        num_sequences=num_rows,
        horizon_tokens=8,
        num_taught_tokens=int(taught.sum()),
        num_taught_sequences=int(available.sum()),
    )
    return batch, logits, ids, step


def rows_of(batch, index):
    changes = {
        field.name: getattr(batch, field.name)[index]
        for field in dataclasses.fields(batch)
        if getattr(batch, field.name) is not None
    }
    return ObjectiveBatch(**changes)


def evaluate(method, batch, logits, ids, step):
    """Total, gradient at the logits, and metrics; padded logits are junk too."""
    logits = logits.clone().requires_grad_()
    logprobs = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
    loss = objective(method, batch, logprobs, logits, lam=0.5, denominators=step)
    loss.total.backward()
    return loss, logits.grad


METHODS = [method_named(name) for name in PRESETS] + [
    method_named("rlsd", student_source="current", mismatch="sequence_tis"),
    method_named("rlsd", surrogate="gspo_token", mismatch="geometric", negative_only=True),
    method_named("rlsd", student_source="scorer", mismatch="sequence_mis"),
    method_named("grpo", surrogate="dppo"),
    method_named("grpo", credit="additive", mismatch="icepop"),
    method_named("sdpo", divergence="sampled", reduction="sequence_mean"),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_microbatches_add_up_to_the_whole(method, seed):
    batch, logits, ids, step = random_batch(seed)
    whole, gradient = evaluate(method, batch, logits, ids, step)
    assert whole.total.isfinite()
    assert gradient.isfinite().all()
    assert (gradient[~batch.mask_BT] == 0).all()
    parts = [
        evaluate(method, rows_of(batch, rows), logits[rows], ids[rows], step)
        for rows in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]
    torch.testing.assert_close(sum(loss.total for loss, _ in parts), whole.total)
    torch.testing.assert_close(torch.cat([part for _, part in parts]), gradient)
    for name, total in whole.metrics.items():
        torch.testing.assert_close(sum(loss.metrics[name] for loss, _ in parts), total)
        assert total.isfinite().all()
    for name, maximum in whole.maxima.items():
        largest = max(loss.maxima[name] for loss, _ in parts)
        # A percentile of a part may lie above that of the whole; a maximum is the same.
        assert largest >= maximum if name == "rollout_gap_p99" else largest == maximum


@pytest.mark.parametrize("method", METHODS)
def test_rows_may_come_in_any_order(method):
    batch, logits, ids, step = random_batch(7)
    whole, gradient = evaluate(method, batch, logits, ids, step)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    other, other_gradient = evaluate(method, rows_of(batch, order), logits[order], ids[order], step)
    torch.testing.assert_close(other.total, whole.total)
    torch.testing.assert_close(other_gradient, gradient[order])


@settings(max_examples=25)
@given(junk=st.floats(allow_nan=True, allow_infinity=True, width=32))
def test_what_is_in_the_padding_changes_nothing(junk):
    batch, logits, ids, step = random_batch(11)
    method = method_named("rlsd", student_source="current", mismatch="token_tis")
    whole, gradient = evaluate(method, batch, logits, ids, step)
    names = ["old_logprobs_BT", "rollout_logprobs_BT", "teacher_logprobs_BT"]
    other = dataclasses.replace(
        batch, **{n: torch.where(batch.mask_BT, getattr(batch, n), junk) for n in names}
    )
    found, other_gradient = evaluate(method, other, logits, ids, step)
    assert torch.equal(found.total, whole.total)
    assert torch.equal(other_gradient, gradient)


@pytest.mark.parametrize("method", METHODS)
def test_junk_log_probs_of_the_policy_in_the_padding_reach_no_gradient(method):
    batch, logits, ids, step = random_batch(13)
    logprobs = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
    logprobs = torch.where(batch.mask_BT, logprobs, -torch.inf).requires_grad_()
    logits = torch.where(batch.mask_BT[..., None], logits, torch.nan).requires_grad_()
    loss = objective(method, batch, logprobs, logits, lam=0.5, denominators=step)
    gradients = torch.autograd.grad(loss.total, [logprobs, logits], materialize_grads=True)
    assert loss.total.isfinite()
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert (gradient[~batch.mask_BT] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_mask_gives_a_loss_of_zero(method):
    batch, logits, ids, step = random_batch(17)
    empty = dataclasses.replace(batch, mask_BT=torch.zeros_like(batch.mask_BT))
    loss, gradient = evaluate(method, empty, logits, ids, step)
    assert loss.total == 0
    assert (gradient == 0).all()
    assert mean_metrics(loss.metrics) == {}


def test_half_precision_policies_are_computed_in_float32():
    batch, logits, ids, step = random_batch(19)
    logits = logits.bfloat16()
    logprobs = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1).requires_grad_()
    batch = dataclasses.replace(
        batch,
        **{
            field.name: getattr(batch, field.name).float()
            for field in dataclasses.fields(batch)
            if getattr(batch, field.name).is_floating_point()
        },
    )
    loss = objective(method_named("grpo+opsd"), batch, logprobs, logits, lam=0, denominators=step)
    assert loss.total.dtype == torch.float32


def test_metrics_match_hand_values(token):
    method = method_named("rlsd")
    batch = token_batch(token, method)
    loss = objective(method, batch, token.cur, lam=0.5, denominators=TOKEN_STEP)
    means = mean_metrics(loss.metrics)
    delta = (token.tea - token.old)[token.mask]
    assert means["delta"] == pytest.approx(delta.mean().item())
    assert means["delta_abs"] == pytest.approx(delta.abs().mean().item())
    # The rows with A = 0 have no direction, so 13 tokens have a weight; 4 of them have A > 0.
    assert means["weight_clipped_low"] == pytest.approx(3 / 13)
    assert means["weight_clipped_low_positive"] == pytest.approx(1 / 4)
    assert means["weight_clipped_high"] == pytest.approx(3 / 13)
    assert means["advantage_ratio_positive"] == pytest.approx(
        (1.578875031 + 1.6499967 + 1.470589138 + 1.3499973) / 4 / 1.499997
    )
    # Ratio 1.49 at A > 0; ratios 0.74 and 0.61 at A < 0. That of 0.74 at A > 0 is not held back.
    assert means["ratio_clipped_high"] == pytest.approx(1 / 17)
    assert means["ratio_clipped_low"] == pytest.approx(2 / 17)
    gap = (token.old - token.roll)[token.mask].abs()
    assert means["rollout_gap"] == pytest.approx(gap.mean().item())
    assert loss.maxima["rollout_gap"].item() == pytest.approx(gap.max().item())
    assert loss.maxima["rollout_gap_p99"].item() == pytest.approx(gap.max().item())  # of 17
    drift = (token.old - token.roll)[token.mask]
    assert means["kl_rollout_old"] == pytest.approx((drift.exp() - 1 - drift).mean().item())
    log_ratio = (token.cur - token.old)[token.mask].detach()
    k3 = log_ratio.exp() - 1 - log_ratio
    assert means["kl_old_policy"] == pytest.approx(k3.mean().item())
    assert "entropy" not in means


def test_entropy_is_split_by_the_sign_of_the_advantage(vocab, oracle):
    batch = vocab_batch(vocab, support=whole_vocabulary())
    loss = objective(
        method_named("grpo"), batch, vocab.cur, vocab.cur_logits, lam=0, denominators=VOCAB_STEP
    )
    means = mean_metrics(loss.metrics)
    entropy = oracle("vocab_logp", "student_entropy")
    assert means["entropy"] == pytest.approx((entropy.sum() / 5).item(), abs=1e-6)
    assert means["entropy_positive"] == pytest.approx(entropy[0].mean().item(), abs=1e-6)
    assert means["entropy_negative"] == pytest.approx(entropy[1, :2].mean().item(), abs=1e-6)


def test_metrics_of_a_teacher_count_only_what_it_scored(token):
    method = method_named("rlsd")
    available = torch.tensor([True, False, False, False, False, False])
    batch = token_batch(token, method, teacher_available_B=available)
    loss = objective(method, batch, token.cur, lam=0.5, denominators=TOKEN_STEP)
    assert loss.metrics["delta"][1] == 4
    assert loss.metrics["weight"][1] == 4
    assert "weight_negative" not in mean_metrics(loss.metrics)


def test_a_divergence_on_a_support_needs_the_logits(vocab):
    batch = vocab_batch(vocab, support=whole_vocabulary())
    with pytest.raises(ValueError, match="needs policy_logits_BTV"):
        objective(method_named("opsd"), batch, vocab.cur, lam=0, denominators=VOCAB_STEP)


def by_hand(**changes):
    """Two trajectories, A = +1 of three tokens and A = -1 of two; all scored by the teacher."""
    junk = float("nan")
    values = {
        "advantages_B": torch.tensor([1.0, -1.0], dtype=torch.float64),
        "mask_BT": torch.tensor([[True, True, True], [True, True, False]]),
        "old_logprobs_BT": torch.tensor([[-1.0, -1.0, -1.0], [-1.0, -1.0, junk]]).double(),
        "rollout_logprobs_BT": torch.tensor([[-1.0, -1.0, -1.5], [-0.5, -1.0, junk]]).double(),
        "teacher_logprobs_BT": torch.tensor([[-1.0, -0.3, -3.0], [-0.5, -2.0, junk]]).double(),
    }
    return ObjectiveBatch(**(values | changes))


def evaluated(method, batch, *, lam):
    policy = torch.where(batch.mask_BT, batch.old_logprobs_BT, 0.0)
    loss = objective(
        method, batch, policy, lam=lam, denominators=Denominators(num_tokens=5, num_sequences=2)
    )
    return mean_metrics(loss.metrics), {n: float(v) for n, v in loss.counts.items()}


def test_the_entropy_of_the_weights_matches_hand_values():
    means, _ = evaluated(method_named("rlsd"), by_hand(), lam=0.5)

    def ratio(*weights):
        shares = [w / sum(weights) for w in weights]
        return -sum(p * math.log(p) for p in shares) / math.log(len(shares))

    first = ratio(1.0, math.exp(0.7), math.exp(-2.0))
    second = ratio(math.exp(-0.5), math.exp(1.0))
    assert means["weight_entropy"] == pytest.approx((first + second) / 2, abs=1e-6)


def test_a_teacher_that_agrees_leaves_the_entropy_at_that_of_equal_weights():
    batch = by_hand()
    silent = dataclasses.replace(batch, teacher_logprobs_BT=batch.old_logprobs_BT)
    means, _ = evaluated(method_named("rlsd"), silent, lam=0.5)
    assert means["weight_entropy"] == pytest.approx(1.0, abs=1e-6)


def test_the_effective_share_of_the_tokens_matches_hand_values():
    means, _ = evaluated(method_named("grpo"), by_hand(), lam=0.0)
    weights = [1.0, 1.0, math.exp(0.5), math.exp(-0.5), 1.0]
    expected = (sum(weights) / 5) ** 2 / (sum(w * w for w in weights) / 5)
    found = effective_share(means["importance"], means["importance_squared"])
    assert found == pytest.approx(expected, abs=1e-6)


def test_rlsd_turns_no_tokens_sign_whatever_the_teacher_says():
    wild = by_hand(
        teacher_logprobs_BT=torch.tensor([[-99.0, 0.0, -1.0], [0.0, -99.0, 0.0]]).double()
    )
    _, counts = evaluated(method_named("rlsd", lam=1.0, eps_w=1.0), wild, lam=1.0)
    assert counts == {"sign_flips": 0}


def test_tokens_that_additive_credit_turns_are_counted():
    method = method_named("grpo", credit="additive", teacher_weight=2.0, student_source="old")
    _, counts = evaluated(method, by_hand(), lam=0.0)
    # A + 2 delta: +1 + (0, 1.4, -4) has one below 0; -1 + (1, -2) is (0, -3): 0 is no sign.
    assert counts == {"sign_flips": 1}
    half = dataclasses.replace(by_hand(), advantages_B=torch.tensor([1.0, -0.5]).double())
    assert evaluated(method, half, lam=0.0)[1] == {"sign_flips": 2}


def test_without_a_teacher_there_is_nothing_to_turn():
    assert evaluated(method_named("grpo"), by_hand(), lam=0.0)[1] == {}
