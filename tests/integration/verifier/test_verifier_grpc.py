import grpc
import pytest

from rlsd.serving.channel import open_channel
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery
from rlsd.trajectory import GroupOutcome, TeacherNeed, VerdictOutcome, VerifierSpec
from rlsd.wire.convert import (
    decode,
    encode,
    group_from_proto,
    group_to_proto,
    spec_to_proto,
    verdict_from_proto,
)
from rlsd.wire.v1 import verifier_service_pb2 as pb
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc
from services.verifier.service import VerifierService

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def service(verifier):
    return VerifierService(verifier)


async def _served(service, call):
    server = grpc.aio.server()
    rpc.add_VerifierServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            return await call(rpc.VerifierServiceStub(channel))
    finally:
        await server.stop(None)


async def test_verify_fills_in_the_verdict_of_each_trajectory(service, make_group):
    group = make_group([r"\boxed{\frac12}", r"\boxed{x}", ""], "0.5", "math")
    request = pb.VerifyRequest(group=group_to_proto(group))
    response = await _served(service, lambda stub: stub.Verify(request, timeout=10))
    verified = group_from_proto(response.group)
    assert verified.rewards == [1.0, 0.0, 0.0]
    assert verified.outcome is GroupOutcome.IN_FLIGHT
    assert verified.trajectories[0].text == group.trajectories[0].text


async def test_verify_of_an_unknown_kind_has_errors_and_no_rewards(service, make_group):
    request = pb.VerifyRequest(group=group_to_proto(make_group(["a", "b"], "a", "sorcery")))
    response = await _served(service, lambda stub: stub.Verify(request, timeout=10))
    verified = group_from_proto(response.group)
    assert verified.rewards == [None, None]
    assert "unknown verifier kind 'sorcery'" in verified.trajectories[0].verdict.reason


async def test_check_needs_no_group(service):
    spec = VerifierSpec(kind="exact", params={"after": "#"})
    request = pb.CheckRequest(
        verifier=spec_to_proto(spec), completion="7 ; 4 ; 2 # 9", reference="9"
    )
    response = await _served(service, lambda stub: stub.Check(request, timeout=10))
    verdict = verdict_from_proto(response.verdict)
    assert (verdict.outcome, verdict.reward) == (VerdictOutcome.SCORED, 1.0)


@pytest.mark.parametrize(
    ("texts", "kind", "stage", "outcome"),
    [
        (["a", "b"], "exact", Stage.TEACH, GroupOutcome.IN_FLIGHT),
        (["b", "b"], "exact", Stage.TRAIN, GroupOutcome.REJECTED),
        (["a", "b"], "sorcery", Stage.TRAIN, GroupOutcome.REJECTED),
    ],
)
async def test_a_delivery_advances_with_its_verdicts(
    service, make_group, texts, kind, stage, outcome
):
    group = make_group(texts, "a", kind, teacher=TeacherNeed.SAMPLED)
    delivery = Delivery(
        stage=Stage.VERIFY,
        entry_id="1-0",
        group_id="g",
        payload=encode(group),
        trace="",
        deliveries=1,
    )
    advance = await service.process(delivery)
    assert advance.to_stage is stage
    assert decode(advance.payload).outcome is outcome
