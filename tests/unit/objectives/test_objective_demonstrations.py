from __future__ import annotations

from rlsd.privileged.demonstrations import demonstration_indices


def test_demonstrations_match_the_oracle(token, oracle):
    expected = oracle.entries["sdpo_demonstrations"]["dont_reprompt_on_self_success"]
    rewards = token.rewards.tolist()
    found = demonstration_indices(rewards[:4]) + [
        None if i is None else i + 4 for i in demonstration_indices(rewards[4:])
    ]
    assert [-1 if i is None else i for i in found] == expected


def test_nobody_demonstrates_in_a_group_without_success():
    assert demonstration_indices([0.0, 0.5, None]) == [None, None, None]
    assert demonstration_indices([]) == []


def test_a_partial_reward_demonstrates_below_a_lower_threshold():
    assert demonstration_indices([0.0, 0.5, None], threshold=0.5) == [1, None, 1]
