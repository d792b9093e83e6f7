"""Wire the teacher service together and serve it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from rlsd.config import RunConfig
from rlsd.serving.http import Probes
from rlsd.serving.lifecycle import Background
from rlsd.serving.process import stage_worker
from rlsd.serving.service import Service, serve_service
from rlsd.streams.stage import Stage
from rlsd.telemetry.activity import Activity, State
from rlsd.wire.v1 import teacher_service_pb2, teacher_service_pb2_grpc
from services.teacher.scorers.choice import choose_scorer
from services.teacher.service import TeacherService


def groups_at_once(config: RunConfig) -> int:
    """Groups that are scored together."""
    return config.teacher.max_groups


@contextlib.asynccontextmanager
async def open_service(config: RunConfig) -> AsyncIterator[Service]:
    """The service with its scorer started; what takes long at the start comes before the probes."""
    activity = Activity(stall_after_s=config.run.stall_after_s)
    scorer = choose_scorer(config, activity)
    service = TeacherService(scorer, run_id=config.run.id, activity=activity)
    background: list[Background] = []
    if config.run.transport == "redis":
        limit = groups_at_once(config)
        background = [
            stage_worker(
                Stage.TEACH, service.process, config, max_in_flight=limit, activity=activity
            )
        ]
    async with scorer:
        activity.enter(State.WAITING_FOR_WORK, "groups from the verifier")
        yield Service(
            name=teacher_service_pb2.DESCRIPTOR.services_by_name["TeacherService"].full_name,
            servicer=service,
            add=teacher_service_pb2_grpc.add_TeacherServiceServicer_to_server,
            probes=Probes(activity=activity, engine_url=config.teacher.engine_url),
            background=background,
        )


async def start(config: RunConfig, *, bind: str, metrics: str | None) -> None:
    """Load the model, then serve until stopped."""
    async with open_service(config) as service:
        await serve_service(service, bind=bind, metrics=metrics)
