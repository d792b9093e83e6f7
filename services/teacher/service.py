"""The teacher service: scores for each group, over gRPC and as a stream worker."""

from __future__ import annotations

import time

import grpc

from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery
from rlsd.streams.worker import Advance
from rlsd.telemetry import tracing
from rlsd.telemetry.activity import Activity
from rlsd.telemetry.logs import work_on
from rlsd.trajectory import Group
from rlsd.wire.convert import (
    activity_to_proto,
    decode,
    encode,
    group_from_proto,
    group_to_proto,
)
from rlsd.wire.v1 import teacher_service_pb2 as pb
from rlsd.wire.v1 import teacher_service_pb2_grpc as rpc
from services.teacher import metrics
from services.teacher.scorers.scorer import Scorer


class TeacherService(rpc.TeacherServiceServicer):
    """One core, `score`, behind two shells."""

    def __init__(self, scorer: Scorer, *, run_id: str, activity: Activity | None = None) -> None:
        self._scorer = scorer
        self._activity = activity or Activity()
        self._run_id = run_id

    async def score(self, group: Group) -> Group:
        """The group with the teacher's scores filled in."""
        work_on(group.texts, group_id=group.group_id)
        started = time.monotonic()
        with self._activity.working():
            scored = await self._scorer.score(group)
        metrics.observe(scored, time.monotonic() - started)
        tracing.describe(scored)
        return scored

    async def process(self, delivery: Delivery) -> Advance:
        """The stream worker's shell."""
        group = await self.score(decode(delivery.payload))
        return Advance(to_stage=Stage.TRAIN, payload=encode(group))

    async def Score(
        self, request: pb.ScoreRequest, context: grpc.ServicerContext
    ) -> pb.ScoreResponse:
        """The gRPC shell."""
        group = await self.score(group_from_proto(request.group))
        return pb.ScoreResponse(group=group_to_proto(group))

    async def GetStatus(
        self, request: pb.TeacherServiceGetStatusRequest, context: grpc.ServicerContext
    ) -> pb.TeacherServiceGetStatusResponse:
        """Which weights score, and what the service does or waits for."""
        return pb.TeacherServiceGetStatusResponse(
            run_id=self._run_id,
            teacher_version=self._scorer.version,
            activity=activity_to_proto(self._activity.snapshot()),
        )
