from __future__ import annotations

import pytest
import torch

from rlsd.objectives import (
    full_jsd,
    sampled_reverse_kl,
    sequence_mean,
    support_jsd,
    support_tail_jsd,
    token_entropy,
    token_mean,
    truncated_ratio,
)

TOLERANCE = {"rtol": 0, "atol": 1e-6}


def check(oracle, name, loss_BT, vocab, *, num_tokens=5):
    found = torch.where(vocab.mask, loss_BT.detach(), 0.0)
    torch.testing.assert_close(found, oracle(name, "token_loss"), **TOLERANCE)
    total = token_mean(loss_BT, vocab.mask, num_tokens=num_tokens)
    oracle.check(name, total, wrt=vocab.cur_logits, key="dloss_dlogits")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("opsd_forward_kl", {"beta": 0.0}),
        ("opsd_reverse_kl", {"beta": 1.0}),
        ("opsd_jsd0.5", {"beta": 0.5}),
        ("opsd_forward_kl_pointclip0.05", {"beta": 0.0, "pointwise_clip": 0.05}),
    ],
)
def test_opsd_over_the_vocabulary_matches_the_oracle(name, options, vocab, oracle):
    check(oracle, name, full_jsd(vocab.cur_logits, vocab.tea_logits, **options), vocab)


def test_opsd_with_a_sequence_mean_matches_the_oracle(vocab, oracle):
    loss = full_jsd(vocab.cur_logits, vocab.tea_logits, beta=0.5)
    total = sequence_mean(loss, vocab.mask, num_sequences=2)
    oracle.check("opsd_jsd0.5_seqmean", total, wrt=vocab.cur_logits, key="dloss_dlogits")


def test_opsd_on_the_teachers_support_matches_the_oracle(vocab, oracle):
    top = vocab.tea_all.topk(2, dim=-1)
    loss = support_jsd(vocab.cur_logits, top.indices, top.values, beta=0.5)
    check(oracle, "opsd_jsd0.5_teacher_top2_renorm", loss, vocab)


@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_sdpo_on_the_students_support_matches_the_oracle(alpha, vocab, oracle):
    ids = vocab.cur_logits.detach().topk(2, dim=-1).indices
    loss = support_tail_jsd(
        vocab.cur_logits, ids, vocab.tea_all.gather(-1, ids), alpha=float(alpha)
    )
    loss = loss * truncated_ratio(vocab.cur, vocab.old, cap=2.0)
    check(oracle, f"sdpo_top2_tail_alpha{alpha}", loss, vocab)


def test_sdpo_leaves_a_trajectory_without_a_demonstration_out_of_both_sums(vocab, oracle):
    ids = torch.arange(5).expand(2, 3, 5)
    loss = support_tail_jsd(vocab.cur_logits, ids, vocab.tea_all, alpha=0.5)
    loss = loss * truncated_ratio(vocab.cur, vocab.old, cap=2.0)
    taught = vocab.mask & torch.tensor([[True], [False]])
    name = "sdpo_full_alpha0.5_second_sample_without_target"
    found = torch.where(taught, loss.detach(), 0.0)
    torch.testing.assert_close(found, oracle(name, "token_loss"), **TOLERANCE)
    total = token_mean(loss, taught, num_tokens=3)
    oracle.check(name, total, wrt=vocab.cur_logits, key="dloss_dlogits")


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_support_of_the_whole_vocabulary_is_the_full_form(beta, vocab):
    ids = torch.tensor([3, 0, 4, 1, 2]).expand(2, 3, 5)
    teacher = vocab.tea_all.gather(-1, ids)
    whole = full_jsd(vocab.cur_logits, vocab.tea_logits, beta=beta)
    torch.testing.assert_close(support_jsd(vocab.cur_logits, ids, teacher, beta=beta), whole)
    torch.testing.assert_close(support_tail_jsd(vocab.cur_logits, ids, teacher, alpha=beta), whole)


def test_an_uneven_mixture_follows_its_definition(vocab):
    policy, teacher = vocab.cur_logits.softmax(-1), vocab.tea_logits.softmax(-1)
    mixture = 0.3 * teacher + 0.7 * policy
    to_teacher = (teacher * (teacher / mixture).log()).sum(-1)
    to_policy = (policy * (policy / mixture).log()).sum(-1)
    found = full_jsd(vocab.cur_logits, vocab.tea_logits, beta=0.3)
    torch.testing.assert_close(found, 0.3 * to_teacher + 0.7 * to_policy)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_no_gradient_reaches_the_teacher(beta, vocab):
    teacher = vocab.tea_logits.clone().requires_grad_()
    total = full_jsd(vocab.cur_logits, teacher, beta=beta).sum()
    assert torch.autograd.grad(total, teacher, allow_unused=True) == (None,)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_teacher_that_agrees_is_at_distance_zero(beta, vocab):
    loss = full_jsd(vocab.cur_logits, vocab.cur_logits.detach(), beta=beta)
    (gradient,) = torch.autograd.grad(loss.sum(), vocab.cur_logits)
    torch.testing.assert_close(loss.detach(), torch.zeros_like(loss))
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_an_impossible_token_adds_nothing(beta):
    logits = torch.tensor([[0.3, 0.1, -torch.inf]], requires_grad=True)
    teacher = torch.tensor([[-0.2, 0.5, -torch.inf]])
    loss = full_jsd(logits, teacher, beta=beta)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    without = full_jsd(logits[:, :2], teacher[:, :2], beta=beta)
    torch.testing.assert_close(loss, without)
    assert gradient.isfinite().all()


def test_a_tail_without_mass_stays_finite():
    logits = torch.tensor([[40.0, 39.0, -40.0, -41.0]], requires_grad=True)
    ids = torch.tensor([[0, 1]])
    teacher = torch.tensor([[40.0, 39.5, -40.0, -41.0]]).log_softmax(-1).gather(-1, ids)
    for alpha in (0.0, 0.5, 1.0):
        loss = support_tail_jsd(logits, ids, teacher, alpha=alpha)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()


def test_sampled_opsd_matches_the_oracle(token, oracle):
    loss = sampled_reverse_kl(token.cur, token.tea)
    found = torch.where(token.mask, loss.detach(), 0.0)
    torch.testing.assert_close(found, oracle("opsd_sampled_pg", "token_loss"), **TOLERANCE)
    total = token_mean(loss, token.mask, num_tokens=17)
    oracle.check("opsd_sampled_pg", total, wrt=token.cur)


def test_sampled_opsd_is_not_the_derivative_of_the_log_ratio(token, oracle):
    total = token_mean(sampled_reverse_kl(token.cur, token.tea), token.mask, num_tokens=17)
    (gradient,) = torch.autograd.grad(total, token.cur)
    wrong = oracle("opsd_WRONG_k1_backprop", "dloss_dcur")
    assert (gradient - wrong).abs().max() > 0.1
    k1 = token_mean(token.cur - token.tea, token.mask, num_tokens=17)
    (k1_gradient,) = torch.autograd.grad(k1, token.cur)
    torch.testing.assert_close(k1_gradient, wrong, **TOLERANCE)


def test_sampled_sdpo_matches_the_oracle(vocab, oracle):
    loss = sampled_reverse_kl(vocab.cur, vocab.tea)
    loss = loss * truncated_ratio(vocab.cur, vocab.old, cap=2.0)
    check(oracle, "sdpo_sampled_token", loss, vocab)


def test_entropy_matches_the_oracle(vocab, oracle):
    for logits, key in [
        (vocab.cur_logits, "student_entropy"),
        (vocab.tea_logits, "teacher_entropy"),
    ]:
        found = torch.where(vocab.mask, token_entropy(logits).detach(), 0.0)
        torch.testing.assert_close(found, oracle("vocab_logp", key), **TOLERANCE)
