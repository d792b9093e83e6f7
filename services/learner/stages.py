"""How the learner reaches the stages: over the queues, or by calling each service itself.

Both give back every admitted group exactly once, finished, rejected or failed.

| | consumes | waits for | unblocked by |
|---|---|---|---|
| QueuedStages | the train stage | Redis, a finished group | any worker |
| CalledStages | its own calls | rollout, verifier, teacher in turn | their deadlines |
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from rlsd.config import Addresses
from rlsd.errors import RlsdError, StreamError
from rlsd.routing import route
from rlsd.serving.channel import calling, open_channel
from rlsd.streams import metrics
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery, Entry, GroupStream
from rlsd.trajectory import Group, GroupOutcome
from rlsd.wire.convert import decode, encode, group_from_proto, group_to_proto
from rlsd.wire.v1 import (
    rollout_service_pb2,
    rollout_service_pb2_grpc,
    teacher_service_pb2,
    teacher_service_pb2_grpc,
    verifier_service_pb2,
    verifier_service_pb2_grpc,
)

log = logging.getLogger(__name__)

_HAND_BACK_S = 5.0


class Stages(Protocol):
    """Where groups go and come back from."""

    async def admit(self, groups: Sequence[Group], *, limit: int) -> None:
        """Send groups on their way; at most `limit` are out at once. Repeating changes nothing."""
        ...

    async def collect(self, *, wait_s: float) -> list[Group]:
        """Groups that have come back, waiting up to `wait_s` for the first."""
        ...

    async def settle(self, groups: Sequence[Group]) -> None:
        """The outcome of these groups is durable: forget them."""
        ...

    async def lost(self, group_ids: Sequence[str]) -> list[str]:
        """Which of these groups are nowhere any more: the queues were wiped."""
        ...

    async def clear(self) -> None:
        """Forget what another run of this name may have left."""
        ...

    async def depths(self) -> dict[str, int]:
        """Groups by the stage they are at."""
        ...


class QueuedStages:
    """The training path: Redis streams between the services."""

    def __init__(self, stream: GroupStream, *, consumer: str) -> None:
        self._stream = stream
        self._consumer = consumer
        self._held: dict[str, Delivery] = {}
        metrics.create_of(Stage.TRAIN)

    async def admit(self, groups: Sequence[Group], *, limit: int) -> None:
        """Put groups at the rollout stage."""
        entries = [Entry(group_id=g.group_id, payload=encode(g)) for g in groups]
        await self._stream.admit(entries, limit=limit)

    async def collect(self, *, wait_s: float) -> list[Group]:
        """Deliveries of the train stage; they stay claimed until they are settled."""
        if self._held:
            await self._stream.beat(list(self._held.values()), self._consumer)
        deliveries = await self._stream.claim(Stage.TRAIN, self._consumer, count=64, wait_s=wait_s)
        new = [d for d in deliveries if d.group_id not in self._held]
        for delivery in new:
            metrics.observe_claim(delivery)
        self._held |= {d.group_id: d for d in deliveries}
        return [decode(d.payload) for d in new]

    async def settle(self, groups: Sequence[Group]) -> None:
        """Credits return."""
        held = [self._held.pop(g.group_id) for g in groups if g.group_id in self._held]
        await self._stream.settle(held)

    async def lost(self, group_ids: Sequence[str]) -> list[str]:
        """Groups that Redis does not know."""
        known = await self._stream.in_flight()
        return [g for g in group_ids if g not in known]

    async def clear(self) -> None:
        """Delete the run's keys."""
        await self._stream.clear()

    async def hand_back(self) -> None:
        """Let the next learner have at once what this one holds, if Redis can still be told."""
        try:
            async with asyncio.timeout(_HAND_BACK_S):
                await self._stream.release(list(self._held.values()), self._consumer)
        except (StreamError, TimeoutError) as error:
            log.warning("deliveries left pending", extra={"reason": str(error)})

    async def depths(self) -> dict[str, int]:
        """Entries by stage."""
        return {stage.value: await self._stream.depth(stage) for stage in Stage}


class CalledStages:
    """The direct path: one call after the other for each group, no queue in between.

    A service that is away, or dies under a call, is waited for until the call's deadline.

    An async context manager: leaving it cancels what is still out.
    """

    def __init__(self, addresses: Addresses, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._channels = [
            open_channel(a) for a in (addresses.rollout, addresses.verifier, addresses.teacher)
        ]
        rollout, verifier, teacher = self._channels
        self._rollout = rollout_service_pb2_grpc.RolloutServiceStub(rollout)
        self._verifier = verifier_service_pb2_grpc.VerifierServiceStub(verifier)
        self._teacher = teacher_service_pb2_grpc.TeacherServiceStub(teacher)
        self._at: dict[str, Stage] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._back: asyncio.Queue[Group] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for channel in self._channels:
            await channel.close()

    async def admit(self, groups: Sequence[Group], *, limit: int) -> None:
        """Start the calls of each new group."""
        for group in groups:
            if group.group_id in self._at or len(self._at) >= limit:
                continue
            self._at[group.group_id] = Stage.ROLLOUT
            task = asyncio.get_running_loop().create_task(self._pass(group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def collect(self, *, wait_s: float) -> list[Group]:
        """Groups whose calls have all returned, or one of whose calls failed."""
        try:
            back = [await asyncio.wait_for(self._back.get(), wait_s)]
        except TimeoutError:
            return []
        while not self._back.empty():
            back.append(self._back.get_nowait())
        return back

    async def settle(self, groups: Sequence[Group]) -> None:
        """Credits return."""
        for group in groups:
            self._at.pop(group.group_id, None)

    async def lost(self, group_ids: Sequence[str]) -> list[str]:
        """None: a call ends with a group, or with its failure."""
        return []

    async def clear(self) -> None:
        """Nothing is left behind by calls."""

    async def depths(self) -> dict[str, int]:
        """Groups by stage."""
        return dict(Counter(stage.value for stage in self._at.values()))

    async def _pass(self, group: Group) -> None:
        try:
            group = await self._through_stages(group)
        except RlsdError as error:
            reason = f"{type(error).__name__}: {error}"
            group = replace(group, outcome=GroupOutcome.FAILED, reason=reason)
        self._at[group.group_id] = Stage.TRAIN
        self._back.put_nowait(group)

    async def _through_stages(self, group: Group) -> Group:
        group = await self.generate(group)
        self._at[group.group_id] = Stage.VERIFY
        stage, group = route(await self.verify(group))
        if stage is Stage.TEACH:
            self._at[group.group_id] = stage
            group = await self.score(group)
        return group

    async def generate(self, group: Group) -> Group:
        """Call the rollout service."""
        request = rollout_service_pb2.GenerateRequest(group=group_to_proto(group))
        async with calling("rollout.Generate"):
            response = await self._rollout.Generate(
                request, timeout=self._timeout_s, wait_for_ready=True
            )
        return group_from_proto(response.group)

    async def verify(self, group: Group) -> Group:
        """Call the verifier service."""
        request = verifier_service_pb2.VerifyRequest(group=group_to_proto(group))
        async with calling("verifier.Verify"):
            response = await self._verifier.Verify(
                request, timeout=self._timeout_s, wait_for_ready=True
            )
        return group_from_proto(response.group)

    async def score(self, group: Group) -> Group:
        """Call the teacher service."""
        request = teacher_service_pb2.ScoreRequest(group=group_to_proto(group))
        async with calling("teacher.Score"):
            response = await self._teacher.Score(
                request, timeout=self._timeout_s, wait_for_ready=True
            )
        return group_from_proto(response.group)
