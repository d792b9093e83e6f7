"""Wiring of one verifier process; alone it serves gRPC and HTTP, with a run also its queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rlsd.config import RunConfig, VerifierSection
from rlsd.serving.http import Probes, serve_app
from rlsd.serving.lifecycle import Background
from rlsd.serving.process import stage_worker
from rlsd.serving.service import Service, serve_service
from rlsd.streams.stage import Stage
from rlsd.telemetry.activity import STALL_AFTER_S, Activity, State
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc
from services.verifier.app import create_app
from services.verifier.core import Verifier, open_verifier
from services.verifier.service import VerifierService

_HTTP_DRAIN_S = 10.0


def groups_at_once(config: RunConfig) -> int:
    """Groups whose checks run at once."""
    return max(1, config.verifier.max_concurrency // config.rollout.group_size)


@contextlib.asynccontextmanager
async def open_service(
    config: RunConfig | None, section: VerifierSection
) -> AsyncIterator[tuple[Service, Verifier]]:
    """The service with its checks open, and the verifier itself for the HTTP face.

    Args:
        config: the run; without one there is no queue to work on.
        section: how verdicts are had; the run's own, if there is one.
    """
    stall_after_s = STALL_AFTER_S if config is None else config.run.stall_after_s
    activity = Activity(stall_after_s=stall_after_s)
    async with open_verifier(section) as verifier:
        waits_for = "calls" if config is None else "groups from the rollout service"
        activity.enter(State.WAITING_FOR_WORK, waits_for)
        activity.watch(verifier.obstacle)
        run_id = config.run.id if config is not None else ""
        service = VerifierService(verifier, run_id=run_id, activity=activity)
        loops: list[Background] = []
        if config is not None and config.run.transport == "redis":
            limit = groups_at_once(config)
            loops.append(
                stage_worker(
                    Stage.VERIFY, service.process, config, max_in_flight=limit, activity=activity
                )
            )
        yield (
            Service(
                name=service.name,
                servicer=service,
                add=rpc.add_VerifierServiceServicer_to_server,
                probes=Probes(activity=activity, lacks=verifier.lacks, has=lambda: _has(verifier)),
                background=loops,
            ),
            verifier,
        )


async def start(
    config: RunConfig | None,
    section: VerifierSection,
    *,
    bind: str,
    http: str | None,
    metrics: str | None,
) -> None:
    """Serve until SIGTERM.

    Args:
        http: address of the HTTP face, if wanted.
        metrics: address of the probes alone; the HTTP face has them too.
    """
    async with open_service(config, section) as (service, verifier):
        faces = [] if http is None else [_http(http, verifier, service.probes)]
        await serve_service(
            service, bind=bind, metrics=metrics, background=faces, lacks=verifier.lacks
        )


def _has(verifier: Verifier) -> str:
    sandbox = f"code in sandbox {verifier.isolation}, {verifier.remark}"
    return "; ".join(x for x in (sandbox if verifier.isolation else "", verifier.doubts()) if x)


def _http(address: str, verifier: Verifier, probes: Probes) -> Background:
    async def loop(stopping: asyncio.Event) -> None:
        app = create_app(verifier, probes=probes)
        await serve_app(app, address, stopping, drain_s=_HTTP_DRAIN_S)

    return loop
