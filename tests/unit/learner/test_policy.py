"""One optimizer step on real (tiny) weights, seen through its gradients' effect."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import make_group, make_scores, make_trajectory

from rlsd.config import LearnerSection
from rlsd.objectives.methods import method_named
from rlsd.policy.loading import load_model
from rlsd.trajectory import GroupOutcome
from services.learner.batches import plan_step, share
from services.learner.policy import Policy


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def policy(method="grpo", **config) -> Policy:
    section = LearnerSection(lr=1e-2, **config)
    model = load_model("examples/chain/base", device=torch.device("cpu"))
    return Policy(model, method_named(method), section, pad_id=0, temperature=1.0)


def batch(num_groups=2, lengths=(3, 5, 2, 4), outcome=GroupOutcome.TRAINED, scored=True):
    groups = []
    for index in range(num_groups):
        trajectories = tuple(
            make_trajectory(
                m,
                reward=float(m % 2),
                length=length,
                scores=make_scores(length) if scored else None,
            )
            for m, length in enumerate(lengths)
        )
        groups.append(make_group(index=index, trajectories=trajectories, outcome=outcome))
    return groups


def weights_after(made: Policy, groups, *, lam=0.5, method="grpo"):
    plan = plan_step(groups, method_named(method), horizon_tokens=8)
    metrics = made.update(plan, step=1, lam=lam, seed=0)
    return metrics, torch.cat([p.detach().flatten() for p in made.model.parameters()])


def test_microbatches_do_not_change_the_step():
    of_whole, whole = weights_after(policy(), batch())
    of_cut, cut = weights_after(policy(microbatch_tokens=16), batch())
    assert of_whole == pytest.approx(of_cut, rel=1e-5, abs=1e-6)
    torch.testing.assert_close(whole, cut, atol=5e-4, rtol=0)  # Adam's first step is ±lr = 1e-2


def test_rlsd_with_lambda_0_is_grpo_to_the_bit():
    _, grpo = weights_after(policy("grpo"), batch())
    _, rlsd = weights_after(policy("rlsd"), batch(), lam=0.0, method="rlsd")
    assert torch.equal(grpo, rlsd)


def test_rlsd_with_a_silent_teacher_is_grpo_to_the_bit():
    _, grpo = weights_after(policy("grpo"), batch())
    _, rlsd = weights_after(policy("rlsd"), batch(scored=False), lam=0.0, method="rlsd")
    assert torch.equal(grpo, rlsd)


def test_a_batch_without_gradient_leaves_the_weights_alone():
    made = policy()
    before = torch.cat([p.detach().flatten() for p in made.model.parameters()]).clone()
    _, after = weights_after(made, batch(outcome=GroupOutcome.REJECTED))
    assert torch.equal(before, after)


def test_a_step_raises_what_was_rewarded_and_lowers_what_was_not():
    made = policy()
    groups = batch(num_groups=1)
    _, _ = weights_after(made, groups)
    plan = plan_step(groups, method_named("grpo"), horizon_tokens=8)
    before = policy()

    def logprob(of, row):
        ids = [*row.prompt_ids.tolist(), *row.trajectory.token_ids.tolist()]
        return sum(of.probe(ids).logprobs[-row.trajectory.num_tokens :])

    for row in plan.rows:
        change = logprob(made, row) - logprob(before, row)
        assert np.sign(change) == np.sign(row.advantage)


def test_rejected_groups_of_equal_rewards_count_in_grpos_denominator_but_not_in_dapos():
    equal = make_group(
        index=9,
        rewards=(1.0, 1.0),
        outcome=GroupOutcome.REJECTED,
        reason="zero_variance",
    )
    groups = [*batch(num_groups=1), equal]
    grpo = plan_step(groups, method_named("grpo"), horizon_tokens=8).denominators
    dapo = plan_step(groups, method_named("dapo"), horizon_tokens=8).denominators
    assert grpo.num_tokens == dapo.num_tokens + equal.num_tokens
    assert grpo.num_sequences == dapo.num_sequences + 2


def test_a_trajectory_without_verdict_is_in_no_row_and_no_denominator():
    whole = make_group(rewards=(1.0, 0.0, 0.0), outcome=GroupOutcome.TRAINED)
    lacking = replace(
        whole, trajectories=(*whole.trajectories, make_trajectory(3, reward=None, length=7))
    )
    plans = [plan_step([g], method_named("grpo"), horizon_tokens=8) for g in (whole, lacking)]
    assert plans[0].denominators == plans[1].denominators
    assert [r.advantage for r in plans[0].rows] == [r.advantage for r in plans[1].rows]


def test_ranks_share_all_rows_in_equally_many_microbatches():
    plan = plan_step(batch(num_groups=3), method_named("grpo"), horizon_tokens=8)
    shares = [share(plan, rank=r, world=2, max_tokens=20) for r in range(2)]
    assert len(shares[0]) == len(shares[1])
    rows = [id(row) for part in shares for microbatch in part for row in microbatch]
    assert sorted(rows) == sorted(id(row) for row in plan.rows)
