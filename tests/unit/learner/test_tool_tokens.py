"""Tokens of tools: read by every forward pass, learned from by none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import make_group, make_scores, make_trajectory
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsd.objectives.loss import objective
from rlsd.objectives.methods import PRESETS, method_named
from rlsd.trajectory import CallOutcome, GroupOutcome, ToolCall, ToolTurn
from services.learner.batches import objective_batch, pad, plan_step, share

VOCABULARY, LENGTH = 20, 9
TURNS = (ToolTurn(start=2, end=4, calls=()), ToolTurn(start=6, end=7, calls=()))
METHODS = [
    *((name, {}) for name in PRESETS),
    ("rlsd", {"permute": True}),
    ("rlsd", {"student_source": "old"}),
    ("grpo", {"mismatch": "geometric", "mismatch_low": 0.0, "mismatch_high": 1e6}),
    ("grpo", {"mismatch": "token_tis"}),
    ("grpo", {"reduction": "sequence_mean"}),
]


def row(member: int, **changes):
    scores = make_scores(LENGTH, support=3)
    return make_trajectory(
        member, reward=float(member % 2), length=LENGTH, scores=scores, **changes
    )


def group(trajectories):
    return make_group(trajectories=tuple(trajectories), outcome=GroupOutcome.TRAINED)


def spoiled(trajectory, junk: float, token: int):
    """The same trajectory with junk wherever a tool's tokens stand."""
    at = ~trajectory.sampled
    scores = trajectory.scores

    def junked(array, value):
        array = array.copy()
        array[at] = value
        return array

    return replace(
        trajectory,
        rollout_logprobs=junked(trajectory.rollout_logprobs, junk),
        scores=replace(
            scores,
            teacher_logprobs=junked(scores.teacher_logprobs, junk),
            student_logprobs=junked(scores.student_logprobs, junk),
            teacher_support_logprobs=junked(scores.teacher_support_logprobs, junk),
            support_ids=junked(scores.support_ids, token),
        ),
    )


def learned(groups, name, changes, logits):
    """Loss, gradient at the logits and every metric."""
    method = method_named(name, **changes)
    plan = plan_step(groups, method, horizon_tokens=16)
    logits = logits.clone().requires_grad_()
    padded = pad(plan.rows, pad_id=0)
    logprobs = logits.log_softmax(-1).gather(-1, padded.completion_BT[..., None])[..., 0]
    loss = objective(
        method,
        objective_batch(plan.rows, logprobs),
        logprobs,
        logits,
        lam=0.5,
        denominators=plan.denominators,
        generator=torch.Generator().manual_seed(0),
    )
    loss.total.backward()
    return loss, logits.grad


@pytest.mark.parametrize(("name", "changes"), METHODS)
@settings(max_examples=4, deadline=None)
@given(
    junk=st.sampled_from([float("nan"), float("inf"), -1e30, 0.0]),
    token=st.sampled_from([-7, 0, 10**6]),
)
def test_whatever_stands_at_tokens_of_tools_changes_no_loss_no_gradient_and_no_metric(
    name, changes, junk, token
):
    logits = torch.randn((4, LENGTH, VOCABULARY), generator=torch.Generator().manual_seed(1))
    clean = [row(m, tool_turns=TURNS) for m in range(4)]
    expected, gradient = learned([group(clean)], name, changes, logits)
    wild = logits.clone()
    wild[:, ~clean[0].sampled] = logits[:, ~clean[0].sampled].flip(-1) * 3  # of no sampled token
    found, other = learned([group([spoiled(t, junk, token) for t in clean])], name, changes, wild)
    assert torch.equal(found.total, expected.total)
    assert torch.equal(other, gradient)
    assert torch.isfinite(gradient).all()
    assert not gradient[:, ~clean[0].sampled].any()
    assert gradient[:, clean[0].sampled].any()
    for name_, value in (expected.metrics | expected.maxima).items():
        torch.testing.assert_close(
            (found.metrics | found.maxima)[name_], value, rtol=0, atol=0, equal_nan=True
        )


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
def test_a_trajectory_with_tools_is_learned_from_as_if_they_were_not_there(reduction):
    """The same rows with the tools' positions taken out of ids, log-probs and logits."""
    logits = torch.randn((4, LENGTH, VOCABULARY), generator=torch.Generator().manual_seed(1))
    whole = [row(m, tool_turns=TURNS) for m in range(4)]
    kept = whole[0].sampled

    def without(t):
        scores = replace(
            t.scores,
            **{
                name: getattr(t.scores, name)[kept]
                for name in (
                    "teacher_logprobs",
                    "student_logprobs",
                    "support_ids",
                    "teacher_support_logprobs",
                )
            },
        )
        return replace(
            t,
            token_ids=t.token_ids[kept],
            rollout_logprobs=t.rollout_logprobs[kept],
            scores=scores,
            tool_turns=(),
        )

    changes = {"reduction": reduction}
    found, gradient = learned([group(whole)], "rlsd", changes, logits)
    short, expected = learned(
        [group(map(without, whole))], "rlsd", changes, logits[:, torch.from_numpy(kept)]
    )
    torch.testing.assert_close(found.total, short.total)
    torch.testing.assert_close(gradient[:, torch.from_numpy(kept)], expected)


def test_denominators_count_what_was_drawn_and_microbatches_what_is_read():
    method = method_named("grpo")
    with_tools = group(row(m, tool_turns=TURNS) for m in range(4))
    plan = plan_step([with_tools], method, horizon_tokens=16)
    assert plan.denominators.num_tokens == 4 * (LENGTH - 3)
    assert plan.denominators.num_taught_tokens == 4 * (LENGTH - 3)
    width = LENGTH + len(with_tools.prompt_token_ids)
    assert [len(p) for p in share(plan, rank=0, world=1, max_tokens=2 * width)] == [2, 2]
    assert [len(p) for p in share(plan, rank=0, world=1, max_tokens=2 * width - 1)] == [1] * 4


def test_without_tools_the_mask_is_every_token_of_the_row():
    rows = plan_step(
        [group([make_trajectory(m, reward=float(m), length=3 + m) for m in range(2)])],
        method_named("grpo"),
        horizon_tokens=8,
    ).rows
    batch = objective_batch(rows, torch.zeros(2, 4))
    assert batch.mask_BT.dtype is torch.bool
    assert batch.mask_BT.tolist() == [[True, True, True, False], [True] * 4]
    assert batch.rollout_logprobs_BT[1].numpy() == pytest.approx(
        rows[1].trajectory.rollout_logprobs, abs=0
    )


def test_a_turn_without_room_for_its_answers_takes_no_token():
    call = ToolCall(tool="f", arguments="{}", answer="7", outcome=CallOutcome.ANSWERED)
    made = row(0, tool_turns=(ToolTurn(start=LENGTH, end=LENGTH, calls=(call,)),))
    assert (made.num_sampled, made.num_turns, len(made.calls)) == (LENGTH, 1, 1)
    assert np.all(made.sampled)
