"""Any order of calls, zombies and repetitions included, has each effect once, on both twins."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlsd.streams.memory import MemoryStream
from rlsd.streams.redis import RedisStream
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery, Entry, GroupStream

LIMIT = 4
CALLS = ["admit", "claim", "advance", "bury", "release", "retry", "beat", "settle"]


class Call(NamedTuple):
    name: str
    stage: Stage
    consumer: str
    pick: int
    """Which of all deliveries so far: finished and lost ones are picked as well."""


calls = st.builds(
    Call,
    name=st.sampled_from(CALLS + ["claim", "advance"] * 2),
    stage=st.sampled_from(Stage),
    consumer=st.sampled_from(["ann", "bob"]),
    pick=st.integers(0, 30),
)


class Play:
    """Applies calls to one twin and writes down all that can be seen from outside."""

    def __init__(self, stream: GroupStream) -> None:
        self._stream = stream
        self._seen: list[Delivery] = []
        self._offered = 0
        self.effects: Counter[tuple[str, Stage]] = Counter()
        self.diary: list[object] = []

    async def run(self, script: list[Call]) -> None:
        for call in script:
            self.diary.append((call.name, await self._apply(call)))
            in_flight = await self._stream.in_flight()
            assert len(in_flight) <= LIMIT
            self.diary.append((in_flight, [await self._stream.depth(stage) for stage in Stage]))
        self.diary.append(await self._stream.dead_letters(99))

    async def _apply(self, call: Call) -> object:
        if call.name == "admit":
            known = sorted(await self._stream.in_flight())[:1]
            self._offered += 2
            offered = [*known, f"g{self._offered}", f"g{self._offered + 1}"]
            entries = [Entry(group_id=g, payload=g.encode()) for g in offered]
            return await self._stream.admit(entries, limit=LIMIT)
        if call.name == "claim":
            count = 1 + call.pick % 3
            got = await self._stream.claim(call.stage, call.consumer, count=count, wait_s=0)
            self._seen += got
            return [(d.group_id, d.payload, d.deliveries) for d in got]
        if not self._seen:
            return None
        return await self._handle(call, self._seen[call.pick % len(self._seen)])

    async def _handle(self, call: Call, delivery: Delivery) -> object:
        match call.name:
            case "advance" if delivery.stage.precedes(call.stage):
                return self._count(
                    delivery, await self._stream.advance(delivery, call.stage, b"next")
                )
            case "bury" if delivery.stage is not Stage.TRAIN:
                return self._count(delivery, await self._stream.bury(delivery, "bad", b"failed"))
            case "release":
                return await self._stream.release([delivery], call.consumer)
            case "retry":
                return await self._stream.retry(delivery, call.consumer, delay_s=0)
            case "beat":
                return len(await self._stream.beat([delivery], call.consumer))
            case "settle" if delivery.stage is Stage.TRAIN:
                return await self._stream.settle([delivery])
        return None

    def _count(self, delivery: Delivery, took_effect: bool) -> bool:
        self.effects[delivery.group_id, delivery.stage] += took_effect
        return took_effect


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(script=st.lists(calls, min_size=20, max_size=60))
def test_any_interleaving_has_each_effect_once_and_the_twins_agree(redis_url, script):
    asyncio.run(play_on_both(redis_url, script))


async def play_on_both(url: str, script: list[Call]) -> None:
    real = RedisStream.from_url(url, uuid.uuid4().hex)
    try:
        plays = [Play(real), Play(MemoryStream())]
        for play in plays:
            await play.run(script)
            assert all(times <= 1 for times in play.effects.values())
        assert plays[0].diary == plays[1].diary
        assert plays[0].effects == plays[1].effects
    finally:
        await real.clear()
        await real.aclose()
