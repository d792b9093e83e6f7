"""Held-out measurement of trajectories that called tools."""

from dataclasses import replace

import pytest
from builders import make_prompt, make_trajectory

from rlsd.config import RunConfig
from rlsd.trajectory import CallOutcome, ToolCall, ToolTurn
from services.learner.evaluation import Evaluator


class Calls:
    """Gives every group the same trajectory, judged."""

    def __init__(self, trajectory):
        self.trajectory = trajectory

    async def generate(self, group):
        return replace(group, trajectories=(self.trajectory,))

    async def verify(self, group):
        return group


async def measured(trajectory, **evaluation):
    config = RunConfig.model_validate(
        {
            "model": {"path": "m"},
            "data": {"train": "t"},
            "evaluation": {"samples": 0, "leakage_patterns": ["the secret"], **evaluation},
        }
    )
    evaluator = Evaluator([make_prompt()], config, Calls(trajectory))
    return await evaluator.measure(step=0, policy_version=0)


def calling(arguments: str):
    call = ToolCall(tool="f", arguments=arguments, answer="7", outcome=CallOutcome.ANSWERED)
    return make_trajectory(length=9, tool_turns=(ToolTurn(start=2, end=6, calls=(call,)),))


async def test_the_length_of_a_completion_is_what_the_policy_drew():
    assert (await measured(calling("{}"))).completion_tokens_mean == 5


@pytest.mark.parametrize(("arguments", "leakage"), [('{"q": "the secret"}', 1.0), ("{}", 0.0)])
async def test_what_a_policy_tells_a_tool_may_leak_like_what_it_answers(arguments, leakage):
    assert (await measured(calling(arguments))).leakage == leakage
