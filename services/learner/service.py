"""The learner's gRPC face: where the run stands."""

from __future__ import annotations

import grpc

from rlsd.wire.convert import activity_to_proto
from rlsd.wire.v1 import learner_service_pb2 as pb
from rlsd.wire.v1 import learner_service_pb2_grpc as rpc
from services.learner.loop import Learner


class LearnerService(rpc.LearnerServiceServicer):
    """Reads the loop's progress and ledger."""

    def __init__(self, learner: Learner, *, run_id: str) -> None:
        self._learner = learner
        self._run_id = run_id

    async def GetStatus(
        self, request: pb.LearnerServiceGetStatusRequest, context: grpc.ServicerContext
    ) -> pb.LearnerServiceGetStatusResponse:
        """A snapshot."""
        progress, ledger = self._learner.progress, self._learner.ledger
        evaluation = progress.evaluation
        return pb.LearnerServiceGetStatusResponse(
            run_id=self._run_id,
            step=progress.step,
            num_steps=progress.num_steps,
            policy_version=progress.step,
            admitted=ledger.admitted,
            trained=ledger.trained,
            rejected=ledger.rejected,
            failed=ledger.failed,
            in_flight=len(ledger.in_flight),
            queue_depths=progress.depths,
            reward_mean=progress.reward_mean,
            held_out_accuracy=evaluation.greedy_accuracy if evaluation else None,
            staleness_mean_versions=progress.staleness_mean,
            waiting_for=progress.waiting_for(),
            activity=activity_to_proto(self._learner.activity.snapshot()),
        )
