import asyncio

import pytest

from rlsd.errors import VerifierError
from rlsd.trajectory import Verdict, VerdictOutcome
from services.verifier.checks.check import InvalidTask, Kind, Params, Task, read_params, scored
from services.verifier.checks.composite import CompositeCheck, CompositeParams

ERROR = Verdict(outcome=VerdictOutcome.ERROR, reason="no sandbox")
TIMEOUT = Verdict(outcome=VerdictOutcome.TIMEOUT, reason="too slow")


class Stage:
    """Kinds with fixed verdicts, and a record of which were asked."""

    def __init__(self, **verdicts):
        self.verdicts = verdicts
        self.asked = []
        self.check = CompositeCheck(self.find)

    def find(self, name, params):
        if name == "composite":
            return Kind(self.check, CompositeParams), read_params(name, CompositeParams, params)

        async def check(task, completion):
            self.asked.append((name, task.reference))
            if isinstance(self.verdicts[name], Exception):
                raise self.verdicts[name]
            return self.verdicts[name]

        return Kind(check, Params), Params()

    async def run(self, mode, *parts):
        found = [part if isinstance(part, dict) else {"kind": part} for part in parts]
        params = read_params("composite", CompositeParams, {"mode": mode, "parts": found})
        return await self.check(Task(reference="gold", params=params), "text")


def _stage():
    return Stage(
        full=scored(1.0, "equal"),
        half=scored(0.5, "partly"),
        none=scored(0.0, "different"),
        error=ERROR,
        timeout=TIMEOUT,
        wrong=InvalidTask("the reference is empty"),
        broken=VerifierError("child died"),
    )


@pytest.mark.parametrize(
    ("mode", "parts", "reward"),
    [
        ("all_of", ("full", "full"), 1.0),
        ("all_of", ("full", "half"), 0.0),
        ("weighted_sum", ("full", "none"), 0.5),
        ("weighted_sum", ({"kind": "full", "weight": 3.0}, "none"), 0.75),
        ("gate_then_score", ("full", "half"), 0.5),
        ("gate_then_score", ("full", "half", "full"), 0.75),
        ("gate_then_score", ("half", "full"), 0.0),
    ],
)
async def test_rewards_are_combined_by_the_mode(mode, parts, reward):
    assert (await _stage().run(mode, *parts)).reward == reward


@pytest.mark.parametrize("weights", [(0.1, 0.2, 0.7), (1 / 3, 1 / 3, 1 / 3), (1e-9, 3.3, 1e9)])
async def test_all_parts_at_one_give_exactly_one(weights):
    parts = [{"kind": "full", "weight": weight} for weight in weights]
    assert (await _stage().run("weighted_sum", *parts)).reward == 1.0


@pytest.mark.parametrize("mode", ["weighted_sum", "all_of", "gate_then_score"])
@pytest.mark.parametrize(
    ("part", "outcome"),
    [("error", "error"), ("timeout", "timeout"), ("wrong", "error"), ("broken", "error")],
)
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_part_without_a_reward_leaves_the_whole_without_one(mode, part, outcome, is_first):
    verdict = await _stage().run(mode, *((part, "full") if is_first else ("full", part)))
    assert (verdict.outcome, verdict.reward) == (outcome, 0.0)
    assert verdict.reason.startswith(f"{part}: ")


async def test_what_is_decided_is_not_asked_further():
    stage = _stage()
    assert (await stage.run("all_of", "none", "error")).reason == "none 0 (different)"
    assert (await stage.run("gate_then_score", "half", "error")).is_scored
    assert [name for name, _ in stage.asked] == ["none", "half"]


async def test_parts_of_a_sum_run_at_once():
    together = asyncio.Barrier(2)

    async def check(task, completion):
        await together.wait()
        return scored(1.0, "met")

    composite = CompositeCheck(lambda _, __: (Kind(check, Params), Params()))
    params = CompositeParams.model_validate(
        {"mode": "weighted_sum", "parts": [{"kind": "a"}, {"kind": "b"}]}
    )
    async with asyncio.timeout(5):
        assert (await composite(Task(reference="", params=params), "")).reward == 1.0


async def test_a_part_may_have_a_reference_of_its_own():
    stage = _stage()
    await stage.run("all_of", "full", {"kind": "full", "reference": "other"})
    assert stage.asked == [("full", "gold"), ("full", "other")]


async def test_reasons_and_isolation_name_the_parts():
    stage = _stage()
    boxed = Verdict(outcome=VerdictOutcome.SCORED, reward=1.0, reason="ran", isolation="T1 abc")
    stage.verdicts["boxed"] = boxed
    verdict = await stage.run("gate_then_score", "boxed", "half", "boxed")
    assert verdict.reason == "boxed 1 (ran); half 0.5 (partly); boxed 1 (ran)"
    assert verdict.isolation == "T1 abc"


async def test_composites_nest_three_deep_and_no_deeper():
    def nested(levels):
        if levels == 1:
            return {"mode": "all_of", "parts": [{"kind": "full"}]}
        inner = {"kind": "composite", "params": nested(levels - 1)}
        return {"mode": "all_of", "parts": [inner]}

    stage = _stage()
    assert (await stage.run("all_of", *nested(3)["parts"])).reward == 1.0
    with pytest.raises(InvalidTask, match="more than 3 within each other"):
        await stage.run("all_of", *nested(4)["parts"])
