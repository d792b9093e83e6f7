"""`GroupStream` in one process's memory; the one rule is to answer as `RedisStream` does.

For tests and for trying a service without a server. Nothing survives the process.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rlsd.streams.keys import NOBODY
from rlsd.streams.stage import Stage
from rlsd.streams.stream import (
    ASKS_S,
    GIVES_WAY_S,
    DeadLetter,
    Delivery,
    Entry,
    Measured,
    check_forward,
    check_settled,
)

_LONGEST_WAIT_S = 0.05
"""How soon an idle consumer sees a claim become abandoned."""


@dataclass(slots=True, kw_only=True)
class _Claim:
    owner: str
    beaten_s: float
    deliveries: int


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """An entry at a stage; `claim` is None until it is first delivered."""

    entry: Entry
    added_s: float
    claim: _Claim | None = None


@dataclass(slots=True)
class _Queue:
    """The entries of one stage in the order of their ids."""

    entries: dict[str, _Waiting] = field(default_factory=dict)
    added: asyncio.Event = field(default_factory=asyncio.Event)
    asked_s: dict[str, float] = field(default_factory=dict)
    """When each consumer last asked for work, in real time."""


class MemoryStream:
    """The groups of one run in memory.

    Args:
        clock: seconds; decides when a claim is abandoned. Waiting for work is in real time.
    """

    def __init__(
        self, *, abandoned_after_s: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._abandoned_after_s = abandoned_after_s
        self._clock = clock
        self._entry_ids = (f"{number}-0" for number in itertools.count(1))
        self._forget()

    def _forget(self) -> None:
        self._in_flight: dict[str, Stage] = {}
        self._queues = {stage: _Queue() for stage in Stage}
        self._dead_letters: deque[DeadLetter] = deque()

    @property
    def abandoned_after_s(self) -> float:
        """Seconds without a beat after which a claim passes to another consumer."""
        return self._abandoned_after_s

    async def admit(self, entries: Sequence[Entry], *, limit: int) -> list[str]:
        """Put new groups at the first stage while fewer than `limit` are in flight."""
        for entry in entries:
            if entry.group_id not in self._in_flight and len(self._in_flight) < limit:
                self._put(Stage.ROLLOUT, entry)
        return [entry.group_id for entry in entries if entry.group_id in self._in_flight]

    def _put(self, stage: Stage, entry: Entry) -> None:
        self._in_flight[entry.group_id] = stage
        queue = self._queues[stage]
        queue.entries[next(self._entry_ids)] = _Waiting(entry=entry, added_s=self._clock())
        queue.added.set()

    async def claim(
        self, stage: Stage, consumer: str, *, count: int, wait_s: float
    ) -> list[Delivery]:
        """Take up to `count` deliveries, waiting up to `wait_s` for the first."""
        now = asyncio.get_running_loop().time
        deadline = now() + wait_s
        shares = wait_s > 0
        while True:
            self._queues[stage].added.clear()
            most = self._most(stage, consumer, count) if shares else count
            claimed = self._claim_now(stage, consumer, most)
            left_s = deadline - now()
            if claimed or left_s <= 0:
                return claimed
            if shares and self._claimable(stage):
                await asyncio.sleep(min(left_s, GIVES_WAY_S))
                shares = False
                continue
            shares = True
            await _wait(self._queues[stage].added, min(left_s, _LONGEST_WAIT_S))

    def _most(self, stage: Stage, consumer: str, count: int) -> int:
        """How many the consumer may have while others ask: abandoned ones, and its share."""
        queue, now_s = self._queues[stage], time.monotonic()
        queue.asked_s[consumer] = now_s
        queue.asked_s = {c: s for c, s in queue.asked_s.items() if s > now_s - ASKS_S}
        askers = queue.asked_s
        if len(askers) == 1:
            return count
        new = sum(w.claim is None for w in queue.entries.values())
        abandoned = min(count, len(self._claimable(stage)) - new)
        owners = [w.claim.owner for w in queue.entries.values() if w.claim]
        held = abandoned + sum(owner in askers for owner in owners)
        share = math.ceil((new + held) / len(askers)) - abandoned - owners.count(consumer)
        return min(count, abandoned + max(0, share))

    def _claim_now(self, stage: Stage, consumer: str, count: int) -> list[Delivery]:
        self._drop_departed(stage)
        claimed = []
        for entry_id, waiting in self._claimable(stage)[:count]:
            attempt = waiting.claim.deliveries + 1 if waiting.claim else 1
            waiting.claim = _Claim(owner=consumer, beaten_s=self._clock(), deliveries=attempt)
            claimed.append(
                Delivery(
                    stage=stage,
                    entry_id=entry_id,
                    group_id=waiting.entry.group_id,
                    payload=waiting.entry.payload,
                    trace=waiting.entry.trace,
                    deliveries=attempt,
                    waited_s=self._clock() - waiting.added_s,
                )
            )
        return claimed

    def _drop_departed(self, stage: Stage) -> None:
        """Remove claimable entries whose group has left the stage."""
        for entry_id, waiting in self._claimable(stage):
            if self._in_flight.get(waiting.entry.group_id) != stage:
                del self._queues[stage].entries[entry_id]

    def _claimable(self, stage: Stage) -> list[tuple[str, _Waiting]]:
        """Abandoned entries, then new ones."""
        entries = self._queues[stage].entries.items()
        latest_s = self._clock() - self._abandoned_after_s
        abandoned = [(i, w) for i, w in entries if w.claim and w.claim.beaten_s <= latest_s]
        return abandoned + [(i, w) for i, w in entries if not w.claim]

    def _owned(self, delivery: Delivery, consumer: str) -> _Claim | None:
        waiting = self._queues[delivery.stage].entries.get(delivery.entry_id)
        claim = waiting.claim if waiting else None
        return claim if claim and claim.owner == consumer else None

    async def beat(self, deliveries: Sequence[Delivery], consumer: str) -> list[Delivery]:
        """Keep claims alive; return those that are not the consumer's any more."""
        lost = []
        for delivery in deliveries:
            if claim := self._owned(delivery, consumer):
                claim.beaten_s = self._clock()
            else:
                lost.append(delivery)
        return lost

    async def advance(self, delivery: Delivery, to_stage: Stage, payload: bytes) -> bool:
        """Move a group on, once, and remove the delivery."""
        check_forward(delivery, to_stage)
        took_effect = self._in_flight.get(delivery.group_id) == delivery.stage
        if took_effect:
            moved = Entry(group_id=delivery.group_id, payload=payload, trace=delivery.trace)
            self._put(to_stage, moved)
        self._queues[delivery.stage].entries.pop(delivery.entry_id, None)
        return took_effect

    async def bury(self, delivery: Delivery, reason: str, payload: bytes) -> bool:
        """Give a group up, once: payload to the train stage, a note to the dead letters."""
        took_effect = await self.advance(delivery, Stage.TRAIN, payload)
        if took_effect:
            self._dead_letters.appendleft(
                DeadLetter(
                    group_id=delivery.group_id,
                    stage=delivery.stage,
                    reason=reason,
                    deliveries=delivery.deliveries,
                    trace=delivery.trace,
                )
            )
        return took_effect

    async def release(self, deliveries: Sequence[Delivery], consumer: str) -> None:
        """Give claims back at once, as if never delivered."""
        for delivery in deliveries:
            self._give_back(delivery, consumer, delay_s=0.0, uncounted=1)

    async def retry(self, delivery: Delivery, consumer: str, *, delay_s: float) -> None:
        """Give a failed claim back for another attempt after `delay_s`."""
        self._give_back(delivery, consumer, delay_s=delay_s, uncounted=0)

    def _give_back(
        self, delivery: Delivery, consumer: str, *, delay_s: float, uncounted: int
    ) -> None:
        if claim := self._owned(delivery, consumer):
            claim.owner = NOBODY
            claim.beaten_s = self._clock() - max(0.0, self._abandoned_after_s - delay_s)
            claim.deliveries -= uncounted
            self._queues[delivery.stage].added.set()

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Forget groups whose outcome is in the batch log; their credits return."""
        check_settled(deliveries)
        for delivery in deliveries:
            self._in_flight.pop(delivery.group_id, None)
            self._queues[Stage.TRAIN].entries.pop(delivery.entry_id, None)

    async def in_flight(self) -> dict[str, Stage]:
        """Every admitted and unsettled group with its stage."""
        return dict(self._in_flight)

    async def depth(self, stage: Stage) -> int:
        """Entries at a stage, waiting or being worked on."""
        return len(self._queues[stage].entries)

    async def oldest_age_s(self, stage: Stage) -> float:
        """Seconds that the oldest entry has been at the stage; 0 when there is none."""
        now_s = self._clock()
        return max((now_s - w.added_s for w in self._queues[stage].entries.values()), default=0.0)

    async def measure(self) -> Measured:
        """How full all stages are; of its memory nobody knows."""
        return Measured(
            entries={stage: await self.depth(stage) for stage in Stage},
            oldest_age_s={stage: await self.oldest_age_s(stage) for stage in Stage},
            memory_used_bytes=0,
            memory_limit_bytes=0,
        )

    async def dead_letters(self, count: int) -> list[DeadLetter]:
        """The latest dead letters, newest first."""
        return list(self._dead_letters)[:count]

    async def ping(self) -> None:
        """Return: memory always answers."""

    async def clear(self) -> None:
        """Forget everything, as a wiped server would."""
        self._forget()

    async def aclose(self) -> None:
        """Close nothing."""


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for the event or the timeout, whichever is first."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
