"""No stage tells what a group is about, whatever goes wrong and whoever quotes it."""

import asyncio
import io
import json
import logging
from dataclasses import replace

import grpc
import pytest
from builders import make_group, make_prompt, make_trajectory

from rlsd.errors import EngineError, TeacherError, VerifierError
from rlsd.serving.interceptors import ErrorStatus
from rlsd.streams.memory import MemoryStream
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Entry
from rlsd.streams.worker import Advance, Job, Limits, work
from rlsd.telemetry.logs import JsonLines
from rlsd.trajectory import Message, VerifierSpec
from rlsd.wire.convert import encode, encode_failed, group_to_proto
from rlsd.wire.v1 import rollout_service_pb2
from services.learner.loop import _hopeless
from services.rollout.service import RolloutService
from services.teacher.service import TeacherService
from services.verifier.core import Verifier
from services.verifier.service import VerifierService

CANARIES = {
    "prompt": "a yellow canary sings in the prompt",
    "completion": 'a\nyellow "canary" sings in the completion',
    "reference": "a yellow canary sings in the reference",
    "privileged": "a yellow canary sings in the privileged context",
    "params": "a yellow canary sings in the tests",
}
GROUP = make_group(
    prompt=make_prompt(
        messages=(Message(role="user", content=CANARIES["prompt"]),),
        reference=CANARIES["reference"],
        privileged=CANARIES["privileged"],
        verifier=VerifierSpec(kind="code", params={"tests": [CANARIES["params"]]}),
    ),
    trajectories=(make_trajectory(text=CANARIES["completion"]),),
)
QUOTES = [*map(repr, CANARIES.values()), *map(json.dumps, CANARIES.values()), str(CANARIES)]
WORDS = " | ".join([*CANARIES.values(), *QUOTES])


class Fails:
    """An engine, a scorer and a verifier that tell all they know when they fail."""

    version = policy_version = 0

    def __init__(self, error):
        self.error = error

    def tokenize(self, messages):
        raise self.error

    async def score(self, group):
        raise self.error

    async def verify_group(self, group):
        raise self.error


def service(stage, error):
    fails = Fails(error)
    return {
        Stage.ROLLOUT: lambda: RolloutService(fails, engine_name="e", run_id="r"),
        Stage.VERIFY: lambda: VerifierService(fails),
        Stage.TEACH: lambda: TeacherService(fails, run_id="r"),
    }[stage]()


@pytest.fixture
def logged():
    """All that is logged at INFO and above, by anybody."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines(service="s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield out.getvalue
    root.removeHandler(handler)
    root.setLevel(level)


def assert_no_canary(text):
    assert "canary" not in text
    assert "sings" not in text


async def work_off(stage, process):
    """Run a worker on one group until it is buried, or the worker dies."""
    stream, stopping = MemoryStream(), asyncio.Event()
    await stream.admit([Entry(group_id=GROUP.group_id, payload=encode(GROUP))], limit=9)
    if stage is not Stage.ROLLOUT:
        [delivery] = await stream.claim(Stage.ROLLOUT, "before", count=1, wait_s=0)
        await stream.advance(delivery, stage, delivery.payload)

    async def processed(delivery) -> Advance:
        if delivery.deliveries == 2:
            stopping.set()
        return await process(delivery)

    job = Job(
        stage=stage,
        consumer="ann",
        process=processed,
        on_dead=lambda d, reason: encode_failed(d.payload, d.group_id, reason),
    )
    limits = Limits(max_deliveries=2, retry_delay_s=0.001, drain_s=5.0)
    async with asyncio.timeout(20):
        await work(stream, job, stopping=stopping, limits=limits)
    return await stream.dead_letters(9)


STAGES = [Stage.ROLLOUT, Stage.VERIFY, Stage.TEACH]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", [EngineError, VerifierError, TeacherError])
async def test_a_group_that_fails_is_logged_without_what_it_is_about(stage, kind, logged):
    error = kind(f"http://engine: HTTP 400: {WORDS}; give it less")
    [letter] = await work_off(stage, service(stage, error).process)
    lines = [json.loads(line) for line in logged().splitlines()]
    assert [line["event"] for line in lines] == ["delivery failed"] * 2 + ["group buried"]
    for line in lines:
        assert line["reason"].startswith(f"{kind.__name__}: http://engine: HTTP 400: ")
        assert (line["group_id"], line["stage"]) == (GROUP.group_id, stage)
    assert_no_canary(logged())
    assert "canary" in letter.reason, "whoever looks for it finds it among the dead letters"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", [KeyError, ValueError, RuntimeError])
async def test_a_worker_that_crashes_over_a_group_does_not_tell_what_it_is_about(
    stage, kind, logged
):
    with pytest.raises(ExceptionGroup):
        await work_off(stage, service(stage, kind(WORDS)).process)
    [line] = [json.loads(line) for line in logged().splitlines()]
    assert line["event"] == "delivery crashed"
    assert kind.__name__ in line["traceback"]
    assert_no_canary(logged())


class Context:
    async def abort(self, status, words):
        raise grpc.aio.AbortError(words)


@pytest.mark.parametrize("error", [EngineError(WORDS), KeyError(WORDS)])
async def test_a_call_that_fails_is_logged_without_what_it_was_about(error, logged):
    rollout = service(Stage.ROLLOUT, error)
    handler = grpc.unary_unary_rpc_method_handler(rollout.Generate)

    async def continuation(_):
        return handler

    details = type("Details", (), {"method": "/rlsd.wire.v1.RolloutService/Generate"})()
    wrapped = await ErrorStatus().intercept_service(continuation, details)
    request = rollout_service_pb2.GenerateRequest(group=group_to_proto(GROUP))
    with pytest.raises(grpc.aio.AbortError):
        await asyncio.create_task(wrapped.unary_unary(request, Context()))
    [line] = [json.loads(line) for line in logged().splitlines()]
    assert line["event"] in ("call failed", "call crashed")
    assert line["group_id"] == GROUP.group_id
    assert_no_canary(logged())


async def test_a_verdict_that_quotes_is_not_logged(logged):
    class Check:
        async def check(self, task, completion):
            raise VerifierError(WORDS)

    verifier = Verifier({}, max_concurrency=1)
    group = await asyncio.create_task(VerifierService(verifier)._verify(GROUP))
    assert group.trajectories[0].verdict.reason.startswith("unknown verifier kind")
    assert_no_canary(logged())


def test_a_learner_that_gives_up_says_why_without_what_it_was_about():
    trajectory = make_trajectory(reward=None, text=CANARIES["completion"])
    verdict = replace(trajectory.verdict, reason=f"says error: {WORDS}")
    group = replace(
        GROUP, reason="no_verdict", trajectories=(replace(trajectory, verdict=verdict),)
    )
    cause = _hopeless([group])
    assert cause.startswith("says error: ")
    assert_no_canary(cause)
