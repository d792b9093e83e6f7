"""Wire the teacher service together and serve it."""

from __future__ import annotations

import grpc
import torch

from rlsd.config import RunConfig
from rlsd.serving.batcher import Batcher
from rlsd.serving.http import Probes, probes_endpoint
from rlsd.serving.lifecycle import Background, ServerConfig, serve
from rlsd.serving.process import stage_worker
from rlsd.streams.stage import Stage
from rlsd.telemetry.activity import Activity, Part, State
from rlsd.trajectory import Group
from rlsd.weights import WeightStore
from rlsd.wire.v1 import teacher_service_pb2, teacher_service_pb2_grpc
from services.teacher.scorer import Scorer
from services.teacher.service import TeacherService


async def start(config: RunConfig, *, bind: str, metrics: str | None) -> None:
    """Load the model, then serve until stopped."""
    activity = Activity(stall_after_s=config.run.stall_after_s)
    activity.enter(State.WAITING_FOR_WORK, "groups from the verifier")
    scorer = _scorer(config, activity)
    batcher: Batcher[Group, Group] = Batcher(
        scorer.score,
        max_items=config.teacher.max_groups,
        initializer=lambda: torch.set_num_threads(config.run.threads),
        pulse=lambda: activity.tick(Part.COMPUTE),
    )
    service = TeacherService(scorer, batcher, run_id=config.run.id, activity=activity)
    background: list[Background] = []
    if config.run.transport == "redis":
        limit = config.teacher.max_groups
        background = [
            stage_worker(
                Stage.TEACH, service.process, config, max_in_flight=limit, activity=activity
            )
        ]

    def register(server: grpc.aio.Server) -> str:
        teacher_service_pb2_grpc.add_TeacherServiceServicer_to_server(service, server)
        return teacher_service_pb2.DESCRIPTOR.services_by_name["TeacherService"].full_name

    with probes_endpoint(metrics, Probes(activity=activity)):
        async with batcher:
            await serve(ServerConfig(bind=bind), register, background, activity=activity)


def _scorer(config: RunConfig, activity: Activity) -> Scorer:
    is_external = config.teacher.model is not None
    return Scorer(
        config.teacher.model or config.model.path,
        None if is_external else WeightStore(config.run_dir / "weights", config.run.id),
        template=config.teacher.template,
        max_prefix_tokens=config.teacher.max_prefix_tokens,
        dtype=config.model.dtype,
        probe_tolerance=config.rollout.probe_tolerance,
        pulse=lambda: activity.tick(Part.COMPUTE),
    )
