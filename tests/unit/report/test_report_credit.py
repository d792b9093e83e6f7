"""The numpy copy of the credit formula, and what the heatmaps choose to show."""

from dataclasses import replace

import numpy as np
import pytest
from report_runs import make_group, make_trajectory, token_texts

from rlsd.report import credit
from rlsd.report.heatmap import FLAT_LEVEL, MAX_TOKENS, NUM_LEVELS, Hue, Palette, completion_view
from rlsd.report.heatmap import weight_depth as depth
from rlsd.report.methods import words_of
from rlsd.trajectory import GroupOutcome, ToolTurn, Verdict, VerdictOutcome

RULE = credit.CreditRule(eps_w=0.2)
PALETTE = Palette(words=words_of("rlsd"), rule=RULE, token_texts=token_texts)


def test_group_advantages_match_hand_values():
    # mean 1/4, deviation with n-1: sqrt((9/16 + 3/16) / 3) = 1/2
    assert credit.group_advantages([1.0, 0.0, 0.0, 0.0]) == pytest.approx(
        [1.5, -0.5, -0.5, -0.5], abs=1e-5
    )
    assert credit.group_advantages([1.0, 0.0], normalise=False) == [0.5, -0.5]


def test_a_member_without_a_verdict_has_no_advantage_and_is_outside_the_mean():
    assert credit.group_advantages([1.0, None, 0.0], normalise=False) == [0.5, None, -0.5]
    assert credit.group_advantages([1.0, None]) == [None, None]


@pytest.mark.parametrize(
    ("advantage", "weight"), [(1.0, 2.0), (-0.5, 0.5), (0.0, 1.0)], ids=["right", "wrong", "zero"]
)
def test_the_weight_is_the_likelihood_ratio_to_the_sign_of_the_advantage(advantage, weight):
    assert credit.token_weights(advantage, np.array([np.log(2.0)]), RULE) == pytest.approx([weight])


def test_negative_only_leaves_right_trajectories_alone():
    rule = credit.CreditRule(negative_only=True)
    assert credit.token_weights(1.0, np.array([3.0]), rule) == [1.0]
    assert credit.token_weights(-1.0, np.array([-1.0]), rule) == pytest.approx([np.e])


def test_weights_agree_with_the_objective_that_trains():
    torch = pytest.importorskip("torch")
    from rlsd.objectives.credit import rlsd_token_advantages

    random = np.random.default_rng(0)
    deltas = random.normal(0, 1, (3, 5))
    advantages = np.array([1.3, -0.7, 0.0])
    trained = rlsd_token_advantages(
        torch.tensor(advantages),
        torch.zeros(3, 5, dtype=torch.float64),
        torch.tensor(deltas),
        torch.ones(3, 5, dtype=torch.bool),
        lam=0.5,
        eps_w=0.2,
    )
    shown = [
        a * (0.5 + 0.5 * credit.clipped(credit.token_weights(a, d, RULE), RULE))
        for a, d in zip(advantages, deltas, strict=True)
    ]
    np.testing.assert_allclose(trained.numpy(), np.array(shown), atol=1e-9)


def test_infinite_log_probs_do_not_reach_the_page():
    trajectory = make_trajectory(np.random.default_rng(0), 0, [1] * 12)
    bad = trajectory.scores.teacher_logprobs.copy()
    bad[:2] = -np.inf, np.nan
    trajectory = replace(trajectory, scores=replace(trajectory.scores, teacher_logprobs=bad))
    assert credit.token_deltas(trajectory)[:2].tolist() == [0.0, 0.0]


def test_depth_is_flat_at_weight_one_and_grows_with_the_weight():
    levels = depth(np.array([1e-9, 0.5, 1.0, 2.0, 1e9]))
    assert levels.tolist() == sorted(levels)
    assert levels[2] * NUM_LEVELS == pytest.approx(FLAT_LEVEL)
    assert levels[[0, -1]].tolist() == [0.0, 1.0]


def test_the_tip_of_a_token_gives_the_numbers_that_made_its_update():
    trajectory = make_trajectory(np.random.default_rng(0), 0, [1] * 12, wrong_at=3)
    scores = replace(
        trajectory.scores,
        teacher_logprobs=np.full(26, -2.0, dtype=np.float32),
        student_logprobs=np.full(26, -1.0, dtype=np.float32),
    )
    view = completion_view(replace(trajectory, scores=scores), -1.0, PALETTE, 0.5)
    assert view.tokens[0].tip == (
        "token 1 · id 1\nΔ = −1.00 nats\nteacher −2.00 · student −1.00\n"
        "w = 2.72 → clipped 1.2\nA_t = −1.00 × 1.1 = −1.10"
    )
    assert view.tokens[0].is_clipped


def test_a_long_completion_is_shown_around_its_largest_difference():
    trajectory = make_trajectory(np.random.default_rng(0), 0, [1] * 500, wrong_at=400)
    view = completion_view(trajectory, -1.0, PALETTE, 0.5)
    assert len(view.tokens) == MAX_TOKENS
    assert view.num_before + MAX_TOKENS + view.num_after == trajectory.num_tokens
    assert max(t.level for t in view.tokens) == NUM_LEVELS


def test_an_error_verdict_is_shown_without_a_direction():
    trajectory = make_trajectory(np.random.default_rng(0), 0, [1] * 12)
    verdict = Verdict(outcome=VerdictOutcome.TIMEOUT, reason="10 s")
    view = completion_view(replace(trajectory, verdict=verdict), None, PALETTE, 0.5)
    assert (view.verdict, view.hue) == ("verdict timeout", "none")


def test_mixed_trained_groups_are_preferred():
    random = np.random.default_rng(0)
    groups = [
        make_group(random, 0, 1.0),
        make_group(random, 1, 0.5),
        make_group(random, 2, 0.5, outcome=GroupOutcome.REJECTED),
    ]
    batch = [credit.Picked(step=1, group=g) for g in groups]
    assert [p.group.index for p in credit.pick_groups(batch, at_most=2)] == [1]
    assert len(credit.pick_groups(batch[:1], at_most=2)) == 1


def test_mean_difference_by_position_counts_only_completions_that_long():
    random = np.random.default_rng(0)
    group = make_group(random, 0, 0.5)
    places, sizes = credit.positions([group])
    assert places.tolist() == list(range(1, 27))
    deltas = [np.abs(credit.token_deltas(t)) for t in group.trajectories]
    assert sizes[4] == pytest.approx(np.mean([d[4] for d in deltas]))


def test_tokens_of_tools_are_shown_and_neither_coloured_nor_counted():
    random = np.random.default_rng(3)
    plain = make_trajectory(random, 0, [1, 2, 3, 4], wrong_at=2)
    spoiled = plain.scores.teacher_logprobs.copy()
    spoiled[1:3] = -50.0  # the teacher could not have foretold what a tool says
    made = replace(
        plain,
        scores=replace(plain.scores, teacher_logprobs=spoiled),
        tool_turns=(ToolTurn(start=1, end=3, calls=()),),
    )
    assert not credit.token_deltas(made)[1:3].any()
    tokens = completion_view(made, -1.0, PALETTE, 0.5).tokens
    assert [t.hue is Hue.TOOL for t in tokens] == (~made.sampled).tolist()
    assert {(t.level, t.tip) for t in tokens[1:3]} == {(0, "of a tool: not learned from")}
    short = replace(
        plain,
        token_ids=plain.token_ids[made.sampled],
        scores=replace(
            plain.scores,
            teacher_logprobs=plain.scores.teacher_logprobs[made.sampled],
            student_logprobs=plain.scores.student_logprobs[made.sampled],
        ),
    )
    assert credit.concentration(made) == credit.concentration(short)
    group = make_group(random, 0, 0.5)
    for found, expected in zip(
        credit.positions([replace(group, trajectories=(made,))]),
        credit.positions([replace(group, trajectories=(short,))]),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)
