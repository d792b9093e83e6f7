import numpy as np
import pytest

from rlsd.routing import route
from rlsd.streams.stage import Stage
from rlsd.trajectory import (
    FinishReason,
    Group,
    GroupOutcome,
    GroupPlan,
    Prompt,
    SamplingParams,
    TeacherNeed,
    Trajectory,
    Verdict,
    VerdictOutcome,
    VerifierSpec,
)


def _verdict(reward):
    if isinstance(reward, float):
        return Verdict(outcome=VerdictOutcome.SCORED, reward=reward)
    return None if reward is None else Verdict(outcome=reward)


def _group(rewards, plan):
    empty_ids, empty_logprobs = np.zeros(0, np.int32), np.zeros(0, np.float32)
    return Group(
        run_id="run",
        group_id="g",
        index=0,
        prompt=Prompt(id="p", messages=(), reference="1", verifier=VerifierSpec(kind="exact")),
        sampling=SamplingParams(),
        plan=plan,
        required_policy_version=0,
        trajectories=tuple(
            Trajectory(
                member=member,
                token_ids=empty_ids,
                rollout_logprobs=empty_logprobs,
                text="",
                finish_reason=FinishReason.STOP,
                min_policy_version=0,
                max_policy_version=0,
                verdict=_verdict(reward),
            )
            for member, reward in enumerate(rewards)
        ),
    )


NONE, SAMPLED = TeacherNeed.NONE, TeacherNeed.SAMPLED
ERROR, TIMEOUT = VerdictOutcome.ERROR, VerdictOutcome.TIMEOUT
IN_FLIGHT, REJECTED = GroupOutcome.IN_FLIGHT, GroupOutcome.REJECTED


@pytest.mark.parametrize(
    ("rewards", "teacher", "rejects", "stage", "outcome", "reason"),
    [
        ([0.0, 1.0], SAMPLED, True, Stage.TEACH, IN_FLIGHT, ""),
        ([0.0, 1.0], NONE, True, Stage.TRAIN, IN_FLIGHT, ""),
        ([1.0, 1.0], SAMPLED, True, Stage.TRAIN, REJECTED, "zero_variance"),
        ([1.0, 1.0], SAMPLED, False, Stage.TEACH, IN_FLIGHT, ""),
        ([1.0, 1.0], NONE, False, Stage.TRAIN, IN_FLIGHT, ""),
        ([1.0, 1.0, ERROR], SAMPLED, True, Stage.TRAIN, REJECTED, "zero_variance"),
        ([0.0, ERROR], SAMPLED, True, Stage.TRAIN, REJECTED, "no_verdict"),
        ([0.0, ERROR], SAMPLED, False, Stage.TRAIN, REJECTED, "no_verdict"),
        ([TIMEOUT, ERROR], NONE, True, Stage.TRAIN, REJECTED, "no_verdict"),
        ([0.0, None], NONE, True, Stage.TRAIN, REJECTED, "no_verdict"),
        ([], SAMPLED, True, Stage.TRAIN, REJECTED, "no_verdict"),
        ([0.0, 1.0, TIMEOUT], SAMPLED, True, Stage.TEACH, IN_FLIGHT, ""),
    ],
)
def test_a_verified_group_goes_where_its_verdicts_and_plan_say(
    rewards, teacher, rejects, stage, outcome, reason
):
    plan = GroupPlan(teacher=teacher, reject_zero_variance=rejects)
    went_to, group = route(_group(rewards, plan))
    assert (went_to, group.outcome, group.reason) == (stage, outcome, reason)
    assert Stage.VERIFY.precedes(went_to)
