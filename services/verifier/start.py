"""Wiring of one verifier process; alone it serves gRPC and HTTP, with a run also its queue."""

from __future__ import annotations

import asyncio

import grpc

from rlsd.config import RunConfig, VerifierSection
from rlsd.serving.http import metrics_endpoint, serve_app
from rlsd.serving.lifecycle import Background, ServerConfig, serve
from rlsd.serving.process import stage_worker
from rlsd.streams.stage import Stage
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc
from services.verifier.app import create_app
from services.verifier.core import Verifier, open_verifier
from services.verifier.service import VerifierService

_HTTP_DRAIN_S = 10.0


async def start(
    config: RunConfig | None, *, bind: str, http: str | None, metrics: str | None
) -> None:
    """Serve until SIGTERM.

    Args:
        config: the run; without one there is no queue to work on.
        http: address of the HTTP face, if wanted.
        metrics: address of `/metrics` alone; the HTTP face has it too.
    """
    section = config.verifier if config is not None else VerifierSection()
    async with open_verifier(section) as verifier:
        service = VerifierService(verifier)

        def register(server: grpc.aio.Server) -> str:
            rpc.add_VerifierServiceServicer_to_server(service, server)
            return service.name

        loops: list[Background] = []
        if config is not None and config.run.transport == "redis":
            limit = max(1, section.max_concurrency // config.rollout.group_size)
            loops.append(stage_worker(Stage.VERIFY, service.process, config, max_in_flight=limit))
        if http is not None:
            loops.append(_http(http, verifier))
        with metrics_endpoint(metrics):
            await serve(ServerConfig(bind=bind), register, loops)


def _http(address: str, verifier: Verifier) -> Background:
    async def loop(stopping: asyncio.Event) -> None:
        await serve_app(create_app(verifier), address, stopping, drain_s=_HTTP_DRAIN_S)

    return loop
