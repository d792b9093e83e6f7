from __future__ import annotations

import math

import pytest
import torch

from rlsd.objectives import (
    cispo_surrogate,
    clipped_surrogate,
    dppo_surrogate,
    grpo_advantages,
    horizon_mean,
    importance_surrogate,
    opd_token_advantages,
    sequence_log_ratio,
    sequence_mean,
    sequence_token_log_ratio,
    token_mean,
)

TOLERANCE = {"rtol": 0, "atol": 1e-6}


def check_losses(oracle, name, loss_BT, mask):
    found = torch.where(mask, loss_BT.detach(), 0.0)
    torch.testing.assert_close(found, oracle(name, "token_loss"), **TOLERANCE)


def advantages_of(token):
    advantages = grpo_advantages(token.rewards, token.uid, token.valid)
    return advantages[:, None] * token.mask


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),  # on-policy: gradient is -A
        (1.5, 2.0, -2.56, 0.0),  # past the upper clip, A > 0: flat
        (0.5, 2.0, -1.0, -1.0),  # below the lower clip, A > 0: still pulled back up
        (0.5, -2.0, 1.6, 0.0),  # past the lower clip, A < 0: flat
        (1.5, -2.0, 3.0, 3.0),  # above the upper clip, A < 0: still pushed down
        (3.5, -2.0, 6.0, 0.0),  # past the dual clip, A < 0: flat
        (3.5, 0.0, 0.0, 0.0),
    ],
)
def test_clipped_surrogate_matches_hand_values(ratio, advantage, loss, gradient):
    log_ratio = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([[advantage]], dtype=torch.float64)
    found = clipped_surrogate(log_ratio, advantages, low=0.2, high=0.28, dual=3.0)
    (slope,) = torch.autograd.grad(found.sum(), log_ratio)
    assert found.item() == pytest.approx(loss)
    assert slope.item() == pytest.approx(gradient)


@pytest.mark.parametrize(
    ("name", "high", "dual"),
    [
        ("grpo_clip0.2_tokenmean", 0.2, None),
        ("grpo_clip0.2_0.28_dual3_tokenmean", 0.28, 3.0),
    ],
)
def test_ppo_with_a_token_mean_matches_the_oracle(name, high, dual, token, oracle):
    loss = clipped_surrogate(
        token.cur - token.old, advantages_of(token), low=0.2, high=high, dual=dual
    )
    check_losses(oracle, name, loss, token.mask)
    oracle.check(name, token_mean(loss, token.mask, num_tokens=17), wrt=token.cur)


def test_ppo_with_a_sequence_mean_matches_the_oracle(token, oracle):
    loss = clipped_surrogate(token.cur - token.old, advantages_of(token), low=0.2, high=0.2)
    check_losses(oracle, "grpo_clip0.2_seqmean", loss, token.mask)
    total = sequence_mean(loss, token.mask, num_sequences=6)
    oracle.check("grpo_clip0.2_seqmean", total, wrt=token.cur)


def test_ppo_over_a_constant_horizon_matches_the_oracle(token, oracle):
    advantages = oracle("dr_grpo_clip0.2_norm4", "token_advantage")
    loss = clipped_surrogate(token.cur - token.old, advantages, low=0.2, high=0.2)
    check_losses(oracle, "dr_grpo_clip0.2_norm4", loss, token.mask)
    total = horizon_mean(loss, token.mask, num_sequences=6, horizon_tokens=4)
    oracle.check("dr_grpo_clip0.2_norm4", total, wrt=token.cur)


@pytest.mark.parametrize("ratio_of", [sequence_log_ratio, sequence_token_log_ratio])
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("gspo_clip0.2_0.28", 0.2, 0.28), ("gspo_clip0.0003_0.0004", 3e-4, 4e-4)],
)
def test_both_forms_of_gspo_match_the_oracle(ratio_of, name, low, high, token, oracle):
    log_ratio = ratio_of(token.cur - token.old, token.mask)
    loss = clipped_surrogate(log_ratio, advantages_of(token), low=low, high=high)
    check_losses(oracle, name, loss, token.mask)
    oracle.check(name, sequence_mean(loss, token.mask, num_sequences=6), wrt=token.cur)


def test_a_sequence_ratio_ignores_padding_and_survives_an_empty_row():
    log_ratio = torch.tensor([[0.2, 0.4, torch.nan], [torch.nan, 0.5, -torch.inf], [torch.nan] * 3])
    mask = torch.tensor([[True, True, False], [False, True, False], [False] * 3])
    for ratio_of in (sequence_log_ratio, sequence_token_log_ratio):
        found = ratio_of(log_ratio, mask)
        assert found[0, :2].tolist() == pytest.approx([0.3, 0.3])
        assert found[1, 1].item() == 0.5
        assert found[2].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "low"), [("cispo_clamp0.8_1.28", 0.2), ("cispo_upper_only_1.28", None)]
)
def test_cispo_matches_the_oracle(name, low, token, oracle):
    loss = cispo_surrogate(
        token.cur, token.cur - token.old, advantages_of(token), low=low, high=0.28
    )
    check_losses(oracle, name, loss, token.mask)
    oracle.check(name, token_mean(loss, token.mask, num_tokens=17), wrt=token.cur)


def test_importance_sampling_matches_the_oracle(token, oracle):
    advantages = opd_token_advantages(token.roll, token.tea, token.mask)
    loss = importance_surrogate(token.cur - token.roll, advantages)
    check_losses(oracle, "opd_tinker_sampled", loss, token.mask)
    total = token_mean(loss, token.mask, num_tokens=17)
    oracle.check("opd_tinker_sampled", total, wrt=token.cur)


def test_dppo_matches_the_oracle(token, oracle):
    name = "dppo_tv0.1_kl1e-3"
    loss = dppo_surrogate(
        token.cur, token.roll, advantages_of(token), threshold=0.1, kl_weight=1e-3
    )
    check_losses(oracle, name, loss, token.mask)
    oracle.check(name, token_mean(loss, token.mask, num_tokens=17), wrt=token.cur)


@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("log_ratio", [-500.0, 500.0])
def test_an_extreme_ratio_keeps_loss_and_gradient_finite(advantage, log_ratio):
    value = torch.tensor([[log_ratio]], requires_grad=True)
    loss = clipped_surrogate(value, torch.tensor([[advantage]]), low=0.2, high=0.28, dual=3.0)
    (gradient,) = torch.autograd.grad(loss.sum(), value)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
