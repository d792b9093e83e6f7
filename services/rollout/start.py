"""Wire the rollout service together and serve it."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import grpc

from rlsd.config import RunConfig
from rlsd.errors import RlsdError
from rlsd.serving.http import Probes, probes_endpoint
from rlsd.serving.lifecycle import Background, ServerConfig, serve
from rlsd.serving.process import stage_worker
from rlsd.streams.stage import Stage
from rlsd.telemetry.activity import Activity, Part, State
from rlsd.weights import WeightStore
from rlsd.wire.v1 import rollout_service_pb2, rollout_service_pb2_grpc
from services.rollout.engines.engine import Engine, GenerationRequest
from services.rollout.engines.transformers import TransformersEngine
from services.rollout.service import RolloutService

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


async def start(config: RunConfig, *, bind: str, metrics: str | None) -> None:
    """Load the model, then serve until stopped."""
    store = WeightStore(config.run_dir / "weights", config.run.id)
    activity = Activity(stall_after_s=config.run.stall_after_s)
    activity.enter(State.WAITING_FOR_WORK, "groups from the learner")
    engine = _engine(config, store, activity)
    service = RolloutService(
        engine, engine_name=config.rollout.engine, run_id=config.run.id, activity=activity
    )
    background: list[Background] = [first_weights(engine, store, activity)]
    if config.run.transport == "redis":
        limit = max(1, config.rollout.max_batch // config.rollout.group_size)
        background.append(
            stage_worker(
                Stage.ROLLOUT, service.process, config, max_in_flight=limit, activity=activity
            )
        )

    def register(server: grpc.aio.Server) -> str:
        rollout_service_pb2_grpc.add_RolloutServiceServicer_to_server(service, server)
        return rollout_service_pb2.DESCRIPTOR.services_by_name["RolloutService"].full_name

    probes = Probes(
        activity=activity,
        lacks=lambda: "" if engine.policy_version >= 0 else "no weights are installed yet",
    )
    with probes_endpoint(metrics, probes):
        async with engine:
            await serve(ServerConfig(bind=bind), register, background, activity=activity)


def _engine(config: RunConfig, store: WeightStore, activity: Activity) -> TransformersEngine:
    return TransformersEngine(
        config.model.path,
        store,
        dtype=config.model.dtype,
        max_batch=config.rollout.max_batch,
        probe_tolerance=config.rollout.probe_tolerance,
        threads=config.run.threads,
        pulse=lambda: activity.tick(Part.COMPUTE),
    )


def first_weights(engine: Engine, store: WeightStore, activity: Activity) -> Background:
    """Install the first version as soon as there is one, so that the service becomes ready.

    Without it, weights would come with the first group, and no group comes to a service that is
    not ready.
    """

    async def loop(stopping: asyncio.Event) -> None:
        activity.hold(State.WAITING_FOR_WEIGHTS, "the first version from the learner")
        while engine.policy_version < 0 and not stopping.is_set():
            if (version := store.latest()) is not None:
                await _install(engine, version)
            if engine.policy_version < 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), _LOOK_EVERY_S)
        activity.release(State.WAITING_FOR_WEIGHTS)
        await stopping.wait()

    return loop


async def _install(engine: Engine, version: int) -> None:
    """Ask for one token, which brings the weights along whatever the engine."""
    one_token = GenerationRequest(
        prompt_ids=(0,),
        seeds=(0,),
        temperature=0.0,
        top_p=1.0,
        max_tokens=1,
        required_policy_version=version,
    )
    try:
        await engine.generate(one_token)
    except RlsdError as error:
        log.warning("weights not installed", extra={"reason": str(error)})
