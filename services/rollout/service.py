"""The rollout service: a group of completions for each prompt, over gRPC and as a stream worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import grpc
import numpy as np

from rlsd.errors import EngineError, ServiceError
from rlsd.privileged.context import policy_messages
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery
from rlsd.streams.worker import Advance
from rlsd.telemetry import tracing
from rlsd.telemetry.activity import Activity
from rlsd.telemetry.logs import work_on
from rlsd.trajectory import Group, Trajectory
from rlsd.wire.convert import (
    activity_to_proto,
    decode,
    encode,
    group_from_proto,
    group_to_proto,
)
from rlsd.wire.v1 import rollout_service_pb2 as pb
from rlsd.wire.v1 import rollout_service_pb2_grpc as rpc
from services.rollout import metrics
from services.rollout.engines.engine import Completion, Engine, GenerationRequest
from services.rollout.seeds import trajectory_seed
from services.rollout.turns import Conversation


class RolloutService(rpc.RolloutServiceServicer):
    """One core, `generate`, behind two shells."""

    def __init__(
        self,
        engine: Engine,
        *,
        engine_name: str,
        run_id: str,
        activity: Activity | None = None,
        conversation: Conversation | None = None,
        on_missing: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Without a conversation a completion is one turn, and a group one call of the engine.

        Args:
            on_missing: told of the version that a group of the queues needs and that the store,
                away or behind, does not give.
        """
        self._engine = engine
        self._conversation = conversation
        self._on_missing = on_missing
        self._activity = activity or Activity()
        self._engine_name = engine_name
        self._run_id = run_id

    async def generate(self, group: Group) -> Group:
        """The group with its prompt ids and trajectories filled in."""
        with self._activity.working():
            return await self._generate(group)

    async def _generate(self, group: Group) -> Group:
        started = time.monotonic()
        work_on(group.texts, group_id=group.group_id)
        messages, conversation = policy_messages(group.prompt), self._conversation
        tokenize = conversation.tokenize if conversation else self._engine.tokenize
        if group.prompt.images:  # loading them takes a while
            ids = await asyncio.to_thread(tokenize, messages)
        else:
            ids = tokenize(messages)
        draw = conversation.trajectories if conversation else self._complete
        trajectories = await draw(group, ids)
        metrics.observe(trajectories, len(ids), time.monotonic() - started)
        metrics.POLICY_VERSION.set(self._engine.policy_version)
        drawn = replace(
            group,
            prompt_token_ids=np.asarray(ids, dtype=np.int32),
            trajectories=tuple(trajectories),
        )
        tracing.describe(drawn)
        return drawn

    async def _complete(self, group: Group, ids: Sequence[int]) -> list[Trajectory]:
        sampling = group.sampling
        completions = await self._engine.generate(
            GenerationRequest(
                prompt_ids=tuple(ids),
                seeds=tuple(trajectory_seed(group, m) for m in range(sampling.num_completions)),
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                required_policy_version=group.required_policy_version,
                images=group.prompt.images,
            )
        )
        return [_trajectory(m, c) for m, c in enumerate(completions)]

    async def process(self, delivery: Delivery) -> Advance:
        """The stream worker's shell."""
        group = decode(delivery.payload)
        try:
            drawn = await self.generate(group)
        except (EngineError, ServiceError):
            if self._engine.policy_version < group.required_policy_version:
                self._on_missing(group.required_policy_version)
            raise
        return Advance(to_stage=Stage.VERIFY, payload=encode(drawn))

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.ServicerContext
    ) -> pb.GenerateResponse:
        """The gRPC shell."""
        group = await self.generate(group_from_proto(request.group))
        return pb.GenerateResponse(group=group_to_proto(group))

    async def GetStatus(
        self, request: pb.RolloutServiceGetStatusRequest, context: grpc.ServicerContext
    ) -> pb.RolloutServiceGetStatusResponse:
        """Which weights are installed, and what the service does or waits for."""
        return pb.RolloutServiceGetStatusResponse(
            run_id=self._run_id,
            engine=self._engine_name,
            policy_version=self._engine.policy_version,
            activity=activity_to_proto(self._activity.snapshot()),
        )


def _trajectory(member: int, completion: Completion) -> Trajectory:
    return Trajectory(
        member=member,
        token_ids=completion.token_ids,
        rollout_logprobs=completion.rollout_logprobs,
        text=completion.text,
        finish_reason=completion.finish_reason,
        min_policy_version=completion.min_policy_version,
        max_policy_version=completion.max_policy_version,
        spans=completion.spans,
    )
