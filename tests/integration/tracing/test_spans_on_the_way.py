"""Spans of workers, of calls between services, and of calls to others."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from builders import make_group
from hostile_http import hostile_server, in_turn, saying, scoring
from judging_over_http import AT_ONCE, LOOPBACK, REQUEST

from rlsd.config import HttpVerifierSection
from rlsd.errors import EngineError, ServiceError, VerifierError
from rlsd.inference.server.connection import ServerConnection
from rlsd.serving.channel import calling, open_channel
from rlsd.serving.interceptors import ErrorStatus, ServerSpans
from rlsd.streams.memory import MemoryStream
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Entry
from rlsd.streams.worker import Advance, Job, Limits, work
from rlsd.telemetry import tracing
from rlsd.telemetry.tracing.mark import group_ids
from rlsd.trajectory import GroupOutcome
from rlsd.verifier_client.client import http_verifier
from rlsd.wire.v1 import rollout_service_pb2 as pb
from rlsd.wire.v1 import rollout_service_pb2_grpc as rpc
from services.learner.traces import Traces

QUICK = Limits(max_in_flight=4, max_deliveries=2, retry_delay_s=0.001, drain_s=5.0)


@contextlib.asynccontextmanager
async def working(stream, process, *, stage=Stage.ROLLOUT):
    job = Job(stage=stage, consumer="ann", process=process, on_dead=lambda _, why: why.encode())
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work(stream, job, stopping=stopping, limits=QUICK))
        yield
        stopping.set()


async def admit(stream, trace, group_id="g00000000"):
    await stream.admit([Entry(group_id=group_id, payload=b"", trace=trace)], limit=9)


async def arrival(stream, stage):
    async with asyncio.timeout(5):
        while not (found := await stream.claim(stage, "test", count=1, wait_s=1)):
            pass
    return found[0]


async def to_verify(delivery):
    await asyncio.sleep(0.01)
    return Advance(to_stage=Stage.VERIFY, payload=b"")


async def test_each_attempt_at_a_group_is_a_span_of_its_own(collector):
    stream, attempts = MemoryStream(), []

    async def second_time(delivery):
        attempts.append(delivery.deliveries)
        if len(attempts) == 1:
            raise EngineError("the prompt was: canary")
        return await to_verify(delivery)

    async with working(stream, second_time):
        await admit(stream, Traces("r").dispatched("g00000000"))
        await arrival(stream, Stage.VERIFY)
    collector.wait_for(lambda r: len(r.spans) == 4)
    ((trace_id, trace),) = collector.traces().items()
    assert trace_id == f"{group_ids('r', 'g00000000').trace_id:032x}"
    told = [(s.name, s.attributes["rlsd.deliveries"], s.is_error) for s in trace]
    assert sorted(told) == [
        ("queue.wait", 1, False),
        ("queue.wait", 2, False),
        ("rollout.generate", 1, True),
        ("rollout.generate", 2, False),
    ]
    (failed,) = [s for s in trace if s.is_error]
    assert failed.attributes["error.type"] == "EngineError"
    assert "canary" not in "".join(s.raw for s in trace)


async def test_the_next_wait_begins_where_the_work_has_ended(collector):
    stream = MemoryStream()
    async with working(stream, to_verify):
        await admit(stream, Traces("r").dispatched("g00000000"))
        delivery = await arrival(stream, Stage.VERIFY)
    await asyncio.sleep(0.05)
    Traces("r").delivered(delivery)
    collector.wait_for(lambda r: len(r.spans) == 3)
    (work_,) = collector.named("rollout.generate")
    first, second = sorted(collector.named("queue.wait"), key=lambda s: s.start_ns)
    assert first.end_ns <= work_.start_ns
    assert 0 <= second.start_ns - work_.end_ns < 5e7
    assert second.end_ns - second.start_ns > 5e7


@pytest.mark.parametrize("trace", ["", "00-ab-cd-01"])
async def test_a_group_that_is_not_traced_passes_without_spans(collector, trace):
    stream = MemoryStream()
    async with working(stream, to_verify):
        await admit(stream, trace)
        delivery = await arrival(stream, Stage.VERIFY)
    assert delivery.trace == trace
    tracing.stop_tracing()
    assert collector.spans == []


async def test_a_buried_group_ends_as_failed_with_the_kind_of_its_error(collector):
    stream, traces = MemoryStream(), Traces("r")

    async def never(delivery):
        raise EngineError("the prompt was: canary")

    async with working(stream, never):
        await admit(stream, traces.dispatched("g00000000"))
        delivery = await arrival(stream, Stage.TRAIN)
    traces.delivered(delivery)
    group = make_group(outcome=GroupOutcome.FAILED, reason="EngineError: the prompt was: canary")
    spans = traces.step(3, since_ns=1)
    spans.gathered([group])
    spans.logged()
    collector.wait_for(lambda r: r.named("group"))
    (root,) = collector.named("group")
    assert root.is_error
    assert root.attributes["rlsd.outcome"] == "failed"
    assert root.attributes["rlsd.reason"] == "EngineError"
    assert (await stream.dead_letters(1))[0].trace.split(" ")[0].split("-")[1] == root.trace_id
    assert "canary" not in "".join(s.raw for s in collector.spans)


class Failing(rpc.RolloutServiceServicer):
    def __init__(self) -> None:
        self.metadata = []

    async def Generate(self, request, context):
        self.metadata.append(dict(context.invocation_metadata()))
        raise EngineError("the prompt was: canary")

    async def GetStatus(self, request, context):
        self.metadata.append(dict(context.invocation_metadata()))
        return pb.RolloutServiceGetStatusResponse()


@pytest.fixture
async def called(collector):
    """A stub and the servicer behind it."""
    server, servicer = grpc.aio.server(interceptors=[ErrorStatus(), ServerSpans()]), Failing()
    rpc.add_RolloutServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield rpc.RolloutServiceStub(channel), servicer
    await server.stop(1)


async def test_a_failed_call_is_an_error_on_both_sides_and_quotes_nothing(collector, called):
    stub, servicer = called
    parent = tracing.root_traceparent(group_ids("r", "g"))
    with pytest.raises(ServiceError, match="canary"), tracing.within(parent):
        async with calling("rollout.Generate"):
            await stub.Generate(pb.GenerateRequest(), timeout=5)
    collector.wait_for(lambda r: len(r.spans) == 2)
    (client,) = collector.named("rlsd.wire.v1.RolloutService/Generate")
    (server,) = collector.named("rollout.generate")
    assert client.parent_id == parent.split("-")[2]
    assert server.parent_id == client.span_id
    assert servicer.metadata[0]["traceparent"].split("-")[2] == client.span_id
    assert client.is_error
    assert server.is_error
    assert client.attributes["error.type"] == "INTERNAL"
    assert server.attributes["error.type"] == "EngineError"
    assert (client.kind, server.kind) == (3, 2)  # CLIENT, SERVER
    assert "canary" not in client.raw + server.raw


async def test_a_call_outside_any_group_has_no_span_and_carries_nothing(collector, called):
    stub, servicer = called
    await stub.GetStatus(pb.RolloutServiceGetStatusRequest(), timeout=5)
    assert "traceparent" not in servicer.metadata[0]
    tracing.stop_tracing()
    assert collector.spans == []


async def test_each_try_at_an_outside_verifier_is_a_span_that_it_hears_of(collector):
    parent = tracing.root_traceparent(group_ids("r", "g"))
    answers = in_turn(saying({"detail": "canary"}, status=503), scoring(1.0))
    async with hostile_server(answers) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK)
        with tracing.span("verify", parent=parent):
            await http_verifier("outside", section, pace=AT_ONCE).judge(REQUEST)
    collector.wait_for(lambda r: len(r.spans) == 3)
    (verify,) = collector.named("verify")
    tries = sorted(collector.named("verifier.http"), key=lambda s: s.start_ns)
    heard = [r.headers["traceparent"] for r in server.received]
    assert heard == [f"00-{s.trace_id}-{s.span_id}-01" for s in tries]
    assert [s.parent_id for s in tries] == [verify.span_id] * 2
    assert [s.attributes["rlsd.result"] for s in tries] == ["unavailable", "scored"]
    assert [s.is_error for s in tries] == [True, False]
    assert {s.attributes["rlsd.verifier"] for s in tries} == {"outside"}


async def test_what_an_outside_verifier_says_is_on_no_span(collector):
    parent = tracing.root_traceparent(group_ids("r", "g"))
    error = {"outcome": "error", "code": "canary", "detail": "canary", "retryable": False}
    async with hostile_server(saying(error)) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK)
        with (
            pytest.raises(VerifierError, match="canary"),
            tracing.span("verify", parent=parent),
        ):
            await http_verifier("outside", section, pace=AT_ONCE).judge(REQUEST)
    collector.wait_for(lambda r: len(r.spans) == 2)
    assert collector.named("verifier.http")[0].attributes["rlsd.result"] == "error"
    assert "canary" not in "".join(s.raw for s in collector.spans)


async def test_an_engines_server_hears_of_the_span_that_asks_it(collector):
    parent = tracing.root_traceparent(group_ids("r", "g"))
    async with (
        hostile_server(saying({})) as server,
        ServerConnection(
            f"http://127.0.0.1:{server.port}", max_requests=1, timeout_s=5
        ) as connection,
    ):
        await connection.order("/outside_any_group")
        with tracing.span("rollout.generate", parent=parent):
            await connection.order("/within_one")
    collector.wait_for(lambda r: r.spans)
    (span,) = collector.spans
    assert "traceparent" not in server.received[0].headers
    assert server.received[1].headers["traceparent"] == f"00-{span.trace_id}-{span.span_id}-01"
