from __future__ import annotations

import functools

import pytest
import torch

from rlsd.objectives import horizon_mean, sequence_mean, token_mean

MASK = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
LOSS = torch.tensor([[1.0, 3.0, 50.0], [5.0, 60.0, 70.0], [80.0, 90.0, 99.0]])
REDUCTIONS = [
    (functools.partial(token_mean, num_tokens=6), 9 / 6),
    (functools.partial(sequence_mean, num_sequences=4), (2 + 5) / 4),
    (functools.partial(horizon_mean, num_sequences=4, horizon_tokens=10), 9 / 40),
]


@pytest.mark.parametrize(("reduce", "expected"), REDUCTIONS)
def test_a_reduction_matches_hand_values(reduce, expected):
    assert reduce(LOSS, MASK).item() == pytest.approx(expected)


@pytest.mark.parametrize(("reduce", "expected"), REDUCTIONS)
@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -torch.inf])
def test_a_reduction_ignores_whatever_is_outside_the_mask(reduce, expected, junk):
    loss = torch.where(MASK, LOSS, junk).requires_grad_()
    total = reduce(loss, MASK)
    (gradient,) = torch.autograd.grad(total, loss)
    assert total.item() == pytest.approx(expected)
    assert (gradient[~MASK] == 0).all()


@pytest.mark.parametrize(("reduce", "expected"), REDUCTIONS)
def test_the_sum_over_microbatches_is_the_whole(reduce, expected):
    parts = sum(reduce(LOSS[i : i + 1], MASK[i : i + 1]) for i in range(3))
    assert parts.item() == pytest.approx(expected)


@pytest.mark.parametrize(("reduce", "expected"), REDUCTIONS)
def test_an_empty_mask_reduces_to_zero(reduce, expected):
    assert reduce(LOSS, torch.zeros_like(MASK)) == 0


def test_a_step_without_tokens_reduces_to_zero():
    assert token_mean(LOSS, torch.zeros_like(MASK), num_tokens=0) == 0


def test_a_horizon_must_be_given():
    with pytest.raises(ValueError, match="horizon_tokens is 0"):
        horizon_mean(LOSS, MASK, num_sequences=3, horizon_tokens=0)
