from __future__ import annotations

import inspect

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlsd.objectives import (
    additive_token_advantages,
    grpo_advantages,
    opd_token_advantages,
    permute_within_sequence,
    reweighted_advantages,
    rlsd_token_advantages,
    rlsd_weights,
    teacher_delta,
    weight_entropy_ratio,
)

TOLERANCE = {"rtol": 0, "atol": 1e-6}
LAMS = [0, 0.25, 0.5, 1]


def grpo(token):
    return grpo_advantages(token.rewards, token.uid, token.valid)


def test_the_public_entry_keeps_its_signature():
    assert str(inspect.signature(rlsd_token_advantages)).replace("'", "") == (
        "(advantages_B: Tensor, student_logprobs_BT: Tensor, teacher_logprobs_BT: Tensor, "
        "mask_BT: Tensor, *, lam: float, eps_w: float) -> Tensor"
    )


@pytest.mark.parametrize("source", ["current", "old"])
@pytest.mark.parametrize("lam", LAMS)
def test_rlsd_token_advantages_match_the_oracle(source, lam, token, oracle):
    name = f"rlsd_lam{lam}_student_{source}"
    student = token.cur if source == "current" else token.old
    found = rlsd_token_advantages(grpo(token), student, token.tea, token.mask, lam=lam, eps_w=0.2)
    assert not found.requires_grad
    torch.testing.assert_close(found, oracle(name, "token_advantage"), **TOLERANCE)
    weights = rlsd_weights(teacher_delta(student, token.tea, token.mask), grpo(token))
    weights = weights * token.mask
    torch.testing.assert_close(weights, oracle(name, "w"), **TOLERANCE)
    clipped = weights.clamp(0.8, 1.2) * token.mask
    torch.testing.assert_close(clipped, oracle(name, "w_clipped"), **TOLERANCE)


def test_rlsd_is_not_the_misprinted_formula(token, oracle):
    wrong = oracle("rlsd_NEGATIVE_CONTROL_literal_web_summary", "token_advantage")
    for student in (token.cur, token.old):
        found = rlsd_token_advantages(
            grpo(token), student, token.tea, token.mask, lam=0.5, eps_w=0.2
        )
        assert (found - wrong).abs().max() > 0.1


def test_the_oracle_would_catch_a_delta_of_the_wrong_sign(token, oracle):
    found = rlsd_token_advantages(grpo(token), token.tea, token.old, token.mask, lam=0.5, eps_w=0.2)
    right = oracle("rlsd_lam0.5_student_old", "token_advantage")
    assert (found - right).abs().max() > 0.1


def test_credit_is_the_advantage_to_the_bit_without_lambda_or_disagreement(token):
    advantages = grpo(token)
    plain = torch.where(token.mask, advantages[:, None], 0.0)
    off = rlsd_token_advantages(advantages, token.old, token.tea, token.mask, lam=0.0, eps_w=0.2)
    agreed = rlsd_token_advantages(
        advantages, token.old, token.old, token.mask, lam=0.37, eps_w=0.2
    )
    assert torch.equal(off, plain)
    assert torch.equal(agreed, plain)


@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -torch.inf, 7.0])
def test_padding_may_hold_anything(junk, token):
    def credit(student, teacher):
        return rlsd_token_advantages(grpo(token), student, teacher, token.mask, lam=0.5, eps_w=0.2)

    clean = credit(token.old, token.tea)
    student = torch.where(token.mask, token.old, junk)
    assert torch.equal(credit(student, torch.where(token.mask, token.tea, junk)), clean)
    assert torch.equal(credit(student, token.tea), clean)
    assert (clean[~token.mask] == 0).all()


def test_half_precision_is_widened():
    half = torch.tensor([[-1.0, -2.0]], dtype=torch.bfloat16)
    mask = torch.ones(1, 2, dtype=torch.bool)
    found = rlsd_token_advantages(
        torch.ones(1, dtype=torch.bfloat16), half, half - 1, mask, lam=0.5, eps_w=0.2
    )
    assert found.dtype == torch.float32


def test_an_impossible_token_keeps_the_credit_finite():
    found = rlsd_token_advantages(
        torch.tensor([1.0, -1.0, 0.0]),
        torch.full((3, 1), -1.0),
        torch.full((3, 1), -torch.inf),
        torch.ones(3, 1, dtype=torch.bool),
        lam=1.0,
        eps_w=0.25,
    )
    assert found.flatten().tolist() == [0.75, -1.25, 0.0]


def test_negative_only_leaves_successes_alone(token):
    delta = teacher_delta(token.old, token.tea, token.mask)
    weights = rlsd_weights(delta, grpo(token), negative_only=True)
    both = rlsd_weights(delta, grpo(token))
    assert (weights[0] == 1).all()
    assert torch.equal(weights[1:], both[1:])


def test_a_row_without_a_teacher_keeps_its_advantage(token):
    available = torch.tensor([False, True, True, True, True, True])
    delta = teacher_delta(token.old, token.tea, token.mask & available[:, None])
    weights = rlsd_weights(delta, grpo(token))
    found = reweighted_advantages(grpo(token), weights, token.mask, lam=1.0, eps_w=0.2)
    assert (found[0] == grpo(token)[0]).all()
    assert (found[1, :3] != grpo(token)[1]).any()


numbers = st.floats(-30, 0, allow_nan=False)


@given(
    advantage=st.floats(-5, 5).filter(lambda a: a == 0 or abs(a) > 1e-6),
    student=st.lists(numbers, min_size=3, max_size=3),
    teacher=st.lists(numbers, min_size=3, max_size=3),
    lam=st.floats(0, 1),
    eps_w=st.floats(0, 0.99),
)
def test_the_verdict_keeps_the_direction_and_bounds_the_size(
    advantage, student, teacher, lam, eps_w
):
    found = rlsd_token_advantages(
        torch.tensor([advantage], dtype=torch.float64),
        torch.tensor([student], dtype=torch.float64),
        torch.tensor([teacher], dtype=torch.float64),
        torch.ones(1, 3, dtype=torch.bool),
        lam=lam,
        eps_w=eps_w,
    )
    size, slack = abs(advantage), 1e-12
    assert (found.sign() == torch.tensor(advantage).sign()).all()
    assert (found.abs() >= size * (1 - lam * eps_w) - slack).all()
    assert (found.abs() <= size * (1 + lam * eps_w) + slack).all()


def test_permutation_keeps_each_sequence_but_not_its_order():
    generator = torch.Generator().manual_seed(0)
    delta = torch.arange(60, dtype=torch.float64).reshape(3, 20) + 1
    mask = torch.ones(3, 20, dtype=torch.bool)
    mask[0, 12:] = False
    mask[1, 3:9] = False  # a hole, as around a tool's answer
    mask[2] = False
    found = permute_within_sequence(delta, mask, generator=generator)
    assert torch.equal(found[~mask], delta[~mask])
    for row in range(3):
        before, after = delta[row][mask[row]], found[row][mask[row]]
        assert torch.equal(after.sort().values, before)
    assert not torch.equal(found[0], delta[0])
    assert not torch.equal(found[1], delta[1])


def test_permutation_repeats_with_its_seed():
    delta, mask = torch.randn(4, 9), torch.ones(4, 9, dtype=torch.bool)
    first, second = (
        permute_within_sequence(delta, mask, generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_opd_credit_matches_the_oracle(token, oracle):
    found = opd_token_advantages(token.roll, token.tea, token.mask)
    torch.testing.assert_close(found, oracle("opd_tinker_sampled", "token_advantage"), **TOLERANCE)


@pytest.mark.parametrize("weight", [0.1, 1])
def test_additive_credit_matches_the_oracle(weight, token, oracle):
    delta = teacher_delta(token.old, token.tea, token.mask)
    found = additive_token_advantages(grpo(token), delta, token.mask, teacher_weight=weight)
    expected = oracle(f"grpo_plus_opsd_additive_mu{weight}", "token_advantage")
    torch.testing.assert_close(found, expected, **TOLERANCE)


def test_a_convex_blend_is_additive_credit_with_both_parts_scaled(token, oracle):
    delta = teacher_delta(token.old, token.tea, token.mask)
    found = additive_token_advantages(0.9 * grpo(token), delta, token.mask, teacher_weight=0.1)
    expected = oracle("grpo_sdpo_convex_lam0.9", "token_advantage")
    torch.testing.assert_close(found, expected, **TOLERANCE)


def test_the_entropy_of_weights_needs_two_tokens_and_survives_the_widest_ones():
    weights = torch.tensor([[torch.inf, 0.0, 1.0], [1.0, 9.0, 9.0], [1.0, 1.0, torch.nan]])
    where = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    found = weight_entropy_ratio(weights, where)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 1.0]), atol=1e-6, rtol=0)
