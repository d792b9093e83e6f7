from __future__ import annotations

import pytest
import torch

from rlsd.objectives import (
    dapo_keep,
    dr_grpo_advantages,
    group_advantages,
    grpo_advantages,
    maxrl_advantages,
    method_named,
    overlong_penalty,
    rloo_advantages,
)

KINDS = [grpo_advantages, dr_grpo_advantages, rloo_advantages, maxrl_advantages]
TOLERANCE = {"rtol": 0, "atol": 1e-6}


@pytest.mark.parametrize(
    ("kind", "options", "key"),
    [
        (grpo_advantages, {}, "grpo_ddof1_eps1e-6"),
        (grpo_advantages, {"ddof": 0}, "grpo_ddof0_eps1e-6"),
        (dr_grpo_advantages, {}, "dr_grpo"),
        (maxrl_advantages, {}, "maxrl_mean_norm"),
        (rloo_advantages, {}, "rloo"),
    ],
)
def test_advantages_match_the_oracle(kind, options, key, token, oracle):
    found = kind(token.rewards, token.uid, token.valid, **options)
    torch.testing.assert_close(found, oracle("advantages", key), **TOLERANCE)


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("grpo", {}, "grpo_ddof1_eps1e-6"),
        ("grpo", {"ddof": 0}, "grpo_ddof0_eps1e-6"),
        ("dr_grpo", {}, "dr_grpo"),
        ("grpo", {"advantage": "rloo"}, "rloo"),
        ("grpo", {"advantage": "maxrl"}, "maxrl_mean_norm"),
    ],
)
def test_a_method_computes_its_own_kind_of_advantage(name, options, key, token, oracle):
    method = method_named(name, **options)
    found = group_advantages(method, token.rewards, token.uid, token.valid)
    torch.testing.assert_close(found, oracle("advantages", key), **TOLERANCE)


def test_a_method_without_a_verdict_has_advantage_zero(token):
    found = group_advantages(method_named("opsd"), token.rewards, token.uid, token.valid)
    assert torch.equal(found, torch.zeros(6, dtype=torch.float64))


def test_dapo_keeps_groups_whose_rewards_differ(token, oracle):
    found = dapo_keep(token.rewards, token.uid, token.valid)
    assert found.tolist() == oracle.entries["advantages"]["dapo_keep"]


def test_overlong_penalty_matches_the_oracle(oracle):
    table = oracle.entries["advantages"]["dapo_overlong_lmax20_cache4"]
    lengths = torch.tensor([int(length) for length in table])
    found = overlong_penalty(lengths, max_tokens=20, cache_tokens=4)
    assert found.tolist() == list(table.values())


@pytest.mark.parametrize("kind", KINDS)
def test_an_unscored_trajectory_leaves_the_baseline_of_its_group(kind):
    rewards = torch.tensor([1.0, 0.0, 0.0, torch.nan], dtype=torch.float64)
    ids = torch.zeros(4, dtype=torch.int64)
    found = kind(rewards, ids, torch.tensor([True, True, True, False]))
    alone = kind(rewards[:3], ids[:3], torch.ones(3, dtype=torch.bool))
    assert found[3] == 0.0
    assert torch.equal(found[:3], alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("rewards", "valid"),
    [
        ([1.0], [True]),
        ([1.0, 0.0], [True, False]),
        ([1.0, 0.0, 0.5], [False, False, False]),
        ([0.1, 0.1, 0.1], [True, True, True]),  # their mean is not 0.1 in binary
        ([], []),
    ],
)
def test_a_group_that_cannot_be_compared_has_advantage_exactly_zero(kind, rewards, valid):
    found = kind(
        torch.tensor(rewards), torch.zeros(len(rewards), dtype=torch.int64), torch.tensor(valid)
    )
    assert found.tolist() == [0.0] * len(rewards)


@pytest.mark.parametrize("kind", KINDS)
def test_advantages_follow_their_rows_and_ignore_other_groups(kind, token):
    order = torch.tensor([4, 2, 0, 5, 3, 1])
    whole = kind(token.rewards, token.uid, token.valid)
    shuffled = kind(token.rewards[order], token.uid[order] * 17 - 3, token.valid[order])
    torch.testing.assert_close(shuffled, whole[order])
    torch.testing.assert_close(kind(token.rewards[:4], token.uid[:4], token.valid[:4]), whole[:4])


def test_a_reward_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        grpo_advantages(
            torch.tensor([torch.nan, 1.0]),
            torch.zeros(2, dtype=torch.int64),
            torch.ones(2, dtype=torch.bool),
        )
