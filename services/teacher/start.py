"""Wire the teacher service together and serve it."""

from __future__ import annotations

import grpc
import torch

from rlsd.config import RunConfig
from rlsd.serving.batcher import Batcher
from rlsd.serving.http import metrics_endpoint
from rlsd.serving.lifecycle import Background, ServerConfig, serve
from rlsd.serving.process import stage_worker
from rlsd.streams.stage import Stage
from rlsd.trajectory import Group
from rlsd.weights import WeightStore
from rlsd.wire.v1 import teacher_service_pb2, teacher_service_pb2_grpc
from services.teacher.scorer import Scorer
from services.teacher.service import TeacherService

_GROUPS_AT_ONCE = 32


async def start(config: RunConfig, *, bind: str, metrics: str | None) -> None:
    """Load the model, then serve until stopped."""
    is_external = config.teacher.model is not None
    scorer = Scorer(
        config.teacher.model or config.model.path,
        None if is_external else WeightStore(config.run_dir / "weights", config.run.id),
        template=config.teacher.template,
        max_prefix_tokens=config.teacher.max_prefix_tokens,
        dtype=config.model.dtype,
        probe_tolerance=config.rollout.probe_tolerance,
    )
    batcher: Batcher[Group, Group] = Batcher(
        scorer.score,
        max_items=_GROUPS_AT_ONCE,
        initializer=lambda: torch.set_num_threads(config.run.threads),
    )
    service = TeacherService(scorer, batcher, run_id=config.run.id)
    background: list[Background] = []
    if config.run.transport == "redis":
        background = [
            stage_worker(Stage.TEACH, service.process, config, max_in_flight=_GROUPS_AT_ONCE)
        ]

    def register(server: grpc.aio.Server) -> str:
        teacher_service_pb2_grpc.add_TeacherServiceServicer_to_server(service, server)
        return teacher_service_pb2.DESCRIPTOR.services_by_name["TeacherService"].full_name

    with metrics_endpoint(metrics):
        async with batcher:
            await serve(ServerConfig(bind=bind), register, background)
