"""Wire the learner together and run it: rank 0 serves and leads, the other ranks follow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import replace

import grpc
import torch
import torch.distributed as dist

from rlsd.config import Addresses, RunConfig
from rlsd.data.sources import Dataset, load_prompts
from rlsd.images.checking import check_images
from rlsd.policy.loading import load_tokenizer, prompt_ids
from rlsd.privileged.context import policy_messages
from rlsd.serving.channel import wait_until_serving
from rlsd.serving.http import Probes, probes_endpoint
from rlsd.serving.lifecycle import ServerConfig, serve
from rlsd.streams.redis import RedisStream
from rlsd.telemetry.activity import Activity, Part, State
from rlsd.telemetry.metrics import SERVICE
from rlsd.wire.v1 import learner_service_pb2, learner_service_pb2_grpc
from services.learner import ranks
from services.learner.evaluation import Evaluator
from services.learner.feeder import Feeder
from services.learner.lease import Lease
from services.learner.loop import Learner
from services.learner.method import configured_method
from services.learner.metrics import QUEUES
from services.learner.queues import measured
from services.learner.run_log import RunLog
from services.learner.service import LearnerService
from services.learner.stages import CalledStages, QueuedStages, Stages
from services.learner.traces import Traces

log = logging.getLogger(__name__)

_PROBE_TOKENS = 64
_REDIS_STARTS_S = 120.0
"""A release starts all its pods at once, and a Redis has no name before it is ready."""


async def start(config: RunConfig, *, bind: str, metrics: str | None) -> bool:
    """Train to the end of the run, or until stopped; whether the run is done (rank 0 knows)."""
    torch.set_num_threads(config.run.threads)
    ranks.join()
    prompts = _load(config, config.data.train, limit=config.data.limit).prompts
    method = configured_method(config)
    tokenizer = load_tokenizer(config.model.path)
    text = replace(prompts[0], images=())  # a probe is ids alone
    probe_ids = prompt_ids(tokenizer, policy_messages(text))[:_PROBE_TOKENS]
    rank = ranks.Rank(config, method, pad_id=tokenizer.pad_token_id or 0, probe_ids=probe_ids)
    if rank.policy.rank > 0:
        rank.restore()
        rank.follow()
        dist.destroy_process_group()
        return True
    async with contextlib.AsyncExitStack() as stack:
        activity = Activity(stall_after_s=config.run.stall_after_s)
        rank.policy.pulse = activity.tick
        probes = Probes(activity=activity)
        SERVICE.watch("learner", activity, probes.is_ready)
        stack.enter_context(probes_endpoint(metrics, probes))
        addresses, traces = Addresses.from_environment(), Traces(config.run.id)
        calls = await stack.enter_async_context(
            CalledStages(addresses, traces, timeout_s=config.learner.stage_timeout_s)
        )
        stages: Stages = calls
        if config.run.transport == "redis":
            activity.enter(State.WAITING_FOR_QUEUES, "Redis to answer")
            async with activity.beating(Part.LOOP):  # the wait has a deadline
                stages = await _queued(config, addresses, traces, stack)
        evaluator = None
        if config.data.held_out is not None:
            held_out = _load(config, config.data.held_out, limit=config.evaluation.limit).prompts
            evaluator = Evaluator(held_out, config, calls)
        learner = Learner(
            rank,
            stages,
            Feeder(prompts, config, method),
            evaluator,
            run_log=RunLog(config.run_dir),
            lease=Lease(config.run_dir),
            traces=traces,
            activity=activity,
        )
        service = LearnerService(learner, run_id=config.run.id)

        def register(server: grpc.aio.Server) -> str:
            learner_service_pb2_grpc.add_LearnerServiceServicer_to_server(service, server)
            return learner_service_pb2.DESCRIPTOR.services_by_name["LearnerService"].full_name

        needed = {"rollout": addresses.rollout, "the verifier": addresses.verifier}
        needed |= {"the teacher": addresses.teacher} if config.run.transport == "grpc" else {}

        async def train(stopping: asyncio.Event) -> None:
            await learner.restore()  # publishes: without weights the stages never get ready
            async with activity.beating(Part.LOOP):
                await _serving(needed, stopping, activity)
            await learner.train(stopping)

        drain_s = config.learner.stage_timeout_s
        server_config = ServerConfig(bind=bind, drain_s=drain_s)
        await serve(server_config, register, [train], activity=activity)
    if dist.is_initialized():
        dist.destroy_process_group()
    return learner.step >= config.run.steps


async def _queued(
    config: RunConfig, addresses: Addresses, traces: Traces, stack: contextlib.AsyncExitStack
) -> QueuedStages:
    """The stages behind Redis once that answers; what is held goes back when the stack is left."""
    stream = RedisStream.from_url(
        addresses.redis_url, config.run.id, abandoned_after_s=config.run.abandoned_after_s
    )
    stack.push_async_callback(stream.aclose)
    await stream.ping(within_s=_REDIS_STARTS_S)
    queued = QueuedStages(stream, traces, consumer=f"learner-{os.getpid()}")
    stack.push_async_callback(queued.hand_back)
    await stack.enter_async_context(measured(stream, QUEUES))
    return queued


async def _serving(addresses: dict[str, str], stopping: asyncio.Event, activity: Activity) -> None:
    """Wait until the services that the learner calls are up, or until it is to stop."""

    async def all_up() -> None:
        for name, address in addresses.items():
            activity.enter(State.WAITING_FOR_SERVICE, f"{name} at {address} to serve")
            await wait_until_serving(address, timeout_s=600.0)

    up, stop = asyncio.ensure_future(all_up()), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((up, stop), return_when=asyncio.FIRST_COMPLETED)
        if up.done():
            up.result()
    finally:
        up.cancel()
        stop.cancel()


def _load(config: RunConfig, source: str, *, limit: int | None) -> Dataset:
    """Prompts of a source; what was left out is logged with its reasons."""
    dataset = load_prompts(
        source, default_verifier=config.data.verifier, shape=config.data.shape, limit=limit
    )
    log.info("prompts loaded", extra={"summary": dataset.summary})
    check_images(config, dataset.prompts)
    return dataset
