"""Wire the rollout service together and serve it."""

from __future__ import annotations

import grpc

from rlsd.config import RunConfig
from rlsd.serving.http import metrics_endpoint
from rlsd.serving.lifecycle import Background, ServerConfig, serve
from rlsd.serving.process import stage_worker
from rlsd.streams.stage import Stage
from rlsd.weights import WeightStore
from rlsd.wire.v1 import rollout_service_pb2, rollout_service_pb2_grpc
from services.rollout.engines.transformers import TransformersEngine
from services.rollout.service import RolloutService


async def start(config: RunConfig, *, bind: str, metrics: str | None) -> None:
    """Load the model, then serve until stopped."""
    engine = TransformersEngine(
        config.model.path,
        WeightStore(config.run_dir / "weights", config.run.id),
        dtype=config.model.dtype,
        max_batch=config.rollout.max_batch,
        probe_tolerance=config.rollout.probe_tolerance,
        threads=config.run.threads,
    )
    service = RolloutService(engine, engine_name=config.rollout.engine, run_id=config.run.id)
    background: list[Background] = []
    if config.run.transport == "redis":
        limit = max(1, config.rollout.max_batch // config.rollout.group_size)
        background = [stage_worker(Stage.ROLLOUT, service.process, config, max_in_flight=limit)]

    def register(server: grpc.aio.Server) -> str:
        rollout_service_pb2_grpc.add_RolloutServiceServicer_to_server(service, server)
        return rollout_service_pb2.DESCRIPTOR.services_by_name["RolloutService"].full_name

    with metrics_endpoint(metrics):
        async with engine:
            await serve(ServerConfig(bind=bind), register, background)
