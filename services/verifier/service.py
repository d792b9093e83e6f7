"""The gRPC servicer and the stream worker's shell, over one core."""

from __future__ import annotations

import grpc

from rlsd.routing import Route, route
from rlsd.streams.stream import Delivery
from rlsd.streams.worker import Advance
from rlsd.telemetry import tracing
from rlsd.telemetry.activity import Activity
from rlsd.telemetry.logs import work_on
from rlsd.trajectory import Group, GroupOutcome
from rlsd.wire.convert import (
    activity_to_proto,
    decode,
    encode,
    group_from_proto,
    group_to_proto,
    spec_from_proto,
    verdict_to_proto,
)
from rlsd.wire.v1 import verifier_service_pb2 as pb
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc
from services.verifier import metrics
from services.verifier.core import Verifier


class VerifierService(rpc.VerifierServiceServicer):
    """Verdicts for groups and for single completions."""

    name = pb.DESCRIPTOR.services_by_name["VerifierService"].full_name

    def __init__(
        self, verifier: Verifier, *, run_id: str = "", activity: Activity | None = None
    ) -> None:
        self._verifier = verifier
        self._run_id = run_id
        self._activity = activity or Activity()

    async def process(self, delivery: Delivery) -> Advance:
        """The stream worker's shell: verify a group and send it on."""
        stage, group = _counted(route(await self._verify(decode(delivery.payload))))
        return Advance(to_stage=stage, payload=encode(group))

    async def Verify(
        self, request: pb.VerifyRequest, context: grpc.ServicerContext
    ) -> pb.VerifyResponse:
        """The gRPC shell: fills in verdicts; what follows from them is the caller's."""
        group = await self._verify(group_from_proto(request.group))
        return pb.VerifyResponse(group=group_to_proto(group))

    async def Check(
        self, request: pb.CheckRequest, context: grpc.ServicerContext
    ) -> pb.CheckResponse:
        """One completion outside any run."""
        work_on([request.completion, request.reference])
        verdict = await self._verifier.check(
            spec_from_proto(request.verifier), request.completion, request.reference
        )
        return pb.CheckResponse(verdict=verdict_to_proto(verdict))

    async def GetStatus(
        self, request: pb.VerifierServiceGetStatusRequest, context: grpc.ServicerContext
    ) -> pb.VerifierServiceGetStatusResponse:
        """What the service does or waits for."""
        return pb.VerifierServiceGetStatusResponse(
            run_id=self._run_id, activity=activity_to_proto(self._activity.snapshot())
        )

    async def _verify(self, group: Group) -> Group:
        work_on(group.texts, group_id=group.group_id)
        with self._activity.working():
            verified = await self._verifier.verify_group(group)
        tracing.describe(verified)
        return verified


def _counted(routed: Route) -> Route:
    is_rejected = routed.group.outcome is GroupOutcome.REJECTED
    metrics.GROUPS.labels(routed.group.reason if is_rejected else "passed").inc()
    return routed
