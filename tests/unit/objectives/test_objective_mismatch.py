from __future__ import annotations

import pytest
import torch

from rlsd.objectives import (
    decoupled_weights,
    geometric_rejection,
    icepop,
    sequence_mis,
    sequence_tis,
    token_tis,
)

KINDS = [
    (decoupled_weights, {}, "ratio_old_over_rollout"),
    (token_tis, {"cap": 2.0}, "tis_token_C2"),
    (icepop, {"low": 0.5, "high": 2.0}, "icepop_0.5_2"),
    (sequence_tis, {"cap": 2.0}, "tis_seq_C2"),
    (sequence_mis, {"cap": 2.0}, "mis_seq_C2"),
    (geometric_rejection, {"low": 0.8, "high": 1.25}, "geo_rs_keep_0.8_1.25"),
]


@pytest.mark.parametrize(("kind", "options", "key"), KINDS)
def test_mismatch_weights_match_the_oracle(kind, options, key, token, oracle):
    found = kind(token.old, token.roll, token.mask, **options)
    torch.testing.assert_close(found, oracle("mismatch_weights", key), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "options", "key"), KINDS)
def test_mismatch_weights_ignore_padding_and_carry_no_gradient(kind, options, key, token):
    clean = kind(token.old, token.roll, token.mask, **options)
    junk = torch.where(token.mask, token.roll, torch.nan)
    old = torch.where(token.mask, token.old, -torch.inf).requires_grad_()
    found = kind(old, junk, token.mask, **options)
    assert torch.equal(found, clean)
    assert not found.requires_grad


@pytest.mark.parametrize(("kind", "options", "key"), KINDS)
def test_a_sampler_that_agrees_gets_weight_one(kind, options, key, token):
    found = kind(token.old, token.old, token.mask, **options)
    assert torch.equal(found, token.mask.double())


@pytest.mark.parametrize(("kind", "options", "key"), KINDS)
def test_an_empty_mask_gives_weight_zero(kind, options, key, token):
    found = kind(token.old, token.roll, torch.zeros_like(token.mask), **options)
    assert (found == 0).all()
