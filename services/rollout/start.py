"""Wire the rollout service together and serve it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from rlsd.config import Addresses, RunConfig
from rlsd.images.files import image_files
from rlsd.policy.loading import load_tokenizer
from rlsd.policy.vision import load_vision
from rlsd.serving.http import Probes
from rlsd.serving.lifecycle import Background
from rlsd.serving.process import stage_worker
from rlsd.serving.service import Service, serve_service
from rlsd.streams.stage import Stage
from rlsd.telemetry.activity import Activity, State
from rlsd.weights.choice import open_store
from rlsd.wire.v1 import rollout_service_pb2, rollout_service_pb2_grpc
from services.rollout import metrics as rollout_metrics
from services.rollout.engines.choice import choose_engine
from services.rollout.engines.engine import Engine
from services.rollout.following import Follower
from services.rollout.service import RolloutService
from services.rollout.tools.chat import ChatTemplate
from services.rollout.tools.choice import open_toolbox
from services.rollout.turns import Conversation

log = logging.getLogger(__name__)


def groups_at_once(config: RunConfig) -> int:
    """Groups that fill the engine's batch."""
    return max(1, config.rollout.max_batch // config.rollout.group_size)


@contextlib.asynccontextmanager
async def open_service(config: RunConfig) -> AsyncIterator[Service]:
    """The service with its engine started; what takes long at the start comes before the probes."""
    store = open_store(config)
    activity = Activity(stall_after_s=config.run.stall_after_s)
    engine = choose_engine(config, store, activity)
    async with _open_conversation(config, engine, activity) as conversation, engine:
        activity.enter(State.WAITING_FOR_WORK, "groups from the learner")
        follower = Follower(engine, store, activity)
        service = RolloutService(
            engine,
            engine_name=config.rollout.engine,
            run_id=config.run.id,
            activity=activity,
            conversation=conversation,
            on_missing=follower.needs,
        )
        background: list[Background] = [follower.follow]
        if config.run.transport == "redis":
            limit = groups_at_once(config)
            background.append(
                stage_worker(
                    Stage.ROLLOUT,
                    service.process,
                    config,
                    max_in_flight=limit,
                    activity=activity,
                    lacks=follower.lacks,
                )
            )
        probes = Probes(
            activity=activity,
            engine_url=config.rollout.engine_url,
            lacks=follower.lacks,
        )
        yield Service(
            name=rollout_service_pb2.DESCRIPTOR.services_by_name["RolloutService"].full_name,
            servicer=service,
            add=rollout_service_pb2_grpc.add_RolloutServiceServicer_to_server,
            probes=probes,
            background=background,
        )


@contextlib.asynccontextmanager
async def _open_conversation(
    config: RunConfig, engine: Engine, activity: Activity
) -> AsyncIterator[Conversation | None]:
    """The tools behind their chat; None where none is configured."""
    tools = config.tools
    if not tools.use:
        yield None
        return
    for name in tools.use:
        rollout_metrics.create_of(name)
    chat = ChatTemplate(
        load_tokenizer(config.model.path),
        tools.functions(),
        max_answer_tokens=tools.max_answer_tokens,
        vision=load_vision(config.model.path, image_files(config)),
    )
    if not chat.shows_tools:
        log.warning(
            "the chat template does not show tools",
            extra={"tools": sorted(tools.use), "remedy": "the policy must know them by itself"},
        )
    address = Addresses.from_environment().verifier
    async with open_toolbox(tools, verifier=address) as toolbox:
        activity.watch(toolbox.obstacle)
        yield Conversation(engine, chat, toolbox, max_turns=tools.max_turns)


async def start(config: RunConfig, *, bind: str, metrics: str | None) -> None:
    """Load the model, then serve until stopped."""
    async with open_service(config) as service:
        await serve_service(service, bind=bind, metrics=metrics)
