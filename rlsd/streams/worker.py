"""The loop by which a service works on its stage; it never looks into a payload.

The one rule: a delivery in hand is finished, buried or given back, however the loop ends. What
not even a kill -9 leaves time for, the stream gives to another worker after `abandoned_after_s`.

| loop | consumes | waits for | unblocked by |
|---|---|---|---|
| claim | entries of the stage | a free slot, an entry | a finished delivery; the stage before |
| deliveries | `max_in_flight` at most | `process`; Redis | |
| beat | claims in hand | `abandoned_after_s / 3` | |
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from rlsd.errors import RlsdError, StreamError
from rlsd.failpoints import failpoint
from rlsd.streams import metrics
from rlsd.streams.ending import end
from rlsd.streams.spans import sent_on, waited, worked_on
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery, GroupStream
from rlsd.telemetry.activity import Activity, State
from rlsd.telemetry.logs import work_on

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

_CLAIM_WAIT_S = 0.5
"""How long an idle worker may take to see that it should stop."""
_LACK_WAIT_S = 0.1
"""How soon a worker sees that it lacks nothing any more."""
_HAND_BACK_S = 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_LONGEST_REASON = 1000
"""Characters; an error may quote what a model wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """What a service made of a delivery: its group goes to this stage with this payload."""

    to_stage: Stage
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker does."""

    stage: Stage
    consumer: str
    """This worker's name, unlike every other's; a restarted process takes a new one."""
    process: Callable[[Delivery], Awaitable[Advance]]
    """Raises `RlsdError` for an attempt that may be repeated; anything else ends the worker."""
    on_dead: Callable[[Delivery, str], bytes]
    """The group marked failed, for the learner's ledger. Must not fail on a broken payload."""
    activity: Activity = field(default_factory=Activity)
    """Hears that the loop turns, and of outages."""
    lacks: Callable[[], str] = lambda: ""
    """What the work needs and is not there; meanwhile the groups are left to others, and one that
    fails for it is given back as if never delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a worker takes on, and for how long."""

    max_in_flight: int = 8
    """Deliveries worked on at once."""
    max_deliveries: int = 3
    """Attempts before a group is buried; one that kills its workers counts each time."""
    retry_delay_s: float = 0.5
    """Before the second attempt; doubles with each, up to the stream's `abandoned_after_s`."""
    drain_s: float = 30.0
    """For deliveries in hand after the stop; the rest is given back."""


async def work(
    stream: GroupStream, job: Job, *, stopping: asyncio.Event, limits: Limits | None = None
) -> None:
    """Work on a stage until `stopping` is set and the deliveries in hand are dealt with.

    An unreachable stream is waited for: finished work is kept and handed on when it is back.

    Raises:
        ExceptionGroup: `process` raised what is no `RlsdError`; all deliveries were given back,
            and the one at fault counts the attempt.
    """
    await _Worker(stream, job, limits or Limits()).run(stopping)


class _Worker:
    """One run of the loop: the deliveries in hand and those to give back."""

    def __init__(self, stream: GroupStream, job: Job, limits: Limits) -> None:
        self._stream = stream
        self._job = job
        self._limits = limits
        self._in_hand: dict[asyncio.Task[None], Delivery] = {}
        self._interrupted: list[Delivery] = []
        self._crashed: list[Delivery] = []
        self._outage = _Outage(job.stage, job.activity)
        metrics.create_of(job.stage)

    async def run(self, stopping: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                beating = tasks.create_task(self._beat())
                stop = tasks.create_task(_wait_for(stopping))
                try:
                    await self._claim_until(stop, tasks)
                    await self._drain()
                finally:
                    # Last: a claim in hand must stay alive until it is dealt with.
                    await end(beating)
        finally:
            await self._hand_back()

    async def _claim_until(self, stop: asyncio.Task[None], tasks: asyncio.TaskGroup) -> None:
        pauses = _Pauses()
        while not stop.done():
            self._job.activity.tick()
            free = self._limits.max_in_flight - len(self._in_hand)
            lacks = self._job.lacks()
            if free == 0 or lacks:
                waits = {stop, *self._in_hand}
                most_s = _LACK_WAIT_S if lacks else _CLAIM_WAIT_S
                await asyncio.wait(waits, timeout=most_s, return_when=asyncio.FIRST_COMPLETED)
                continue
            try:
                # Never cancelled by the stop: deliveries on their way here would be stranded.
                claimed = await self._stream.claim(
                    self._job.stage, self._job.consumer, count=free, wait_s=_CLAIM_WAIT_S
                )
            except StreamError as error:
                self._outage.began(error, of="claim")
                await asyncio.wait({stop}, timeout=pauses.next_s())
                continue
            self._outage.ended(of="claim")
            pauses = _Pauses()
            for delivery in claimed:
                self._take_on(delivery, tasks)

    def _take_on(self, delivery: Delivery, tasks: asyncio.TaskGroup) -> None:
        metrics.observe_claim(delivery)
        task = tasks.create_task(self._handle(delivery))
        self._in_hand[task] = delivery
        task.add_done_callback(self._put_down)

    def _put_down(self, task: asyncio.Task[None]) -> None:
        delivery = self._in_hand.pop(task)
        if task.cancelled():
            self._interrupted.append(delivery)
        elif task.exception():
            self._crashed.append(delivery)

    async def _handle(self, delivery: Delivery) -> None:
        work_on(group_id=delivery.group_id, stage=delivery.stage)
        waited(delivery)
        if delivery.deliveries > self._limits.max_deliveries:
            # Its last workers did not live to report: a group that kills must not do so for ever.
            await self._bury(delivery, f"no outcome after {delivery.deliveries - 1} deliveries")
            return
        try:
            with worked_on(delivery):
                step = await self._job.process(delivery)
        except RlsdError as error:
            await self._fail(delivery, error)
        except Exception:
            log.exception("delivery crashed", extra={"deliveries": delivery.deliveries})
            raise
        else:
            failpoint("process/advance")
            done = sent_on(delivery)
            took_effect = await self._persist(
                lambda: self._stream.advance(done, step.to_stage, step.payload)
            )
            failpoint("advance/next")
            if not took_effect:  # a zombie's, or sent again after a lost answer
                metrics.RESULTS_DROPPED.labels(delivery.stage).inc()
                log.info("result dropped", extra={"deliveries": delivery.deliveries})

    async def _fail(self, delivery: Delivery, error: RlsdError) -> None:
        reason = f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
        if self._job.lacks():
            log.info("delivery given back", extra={"reason": reason})
            await self._persist(lambda: self._stream.release([delivery], self._job.consumer))
            return
        log.warning("delivery failed", extra={"deliveries": delivery.deliveries, "reason": reason})
        if delivery.deliveries >= self._limits.max_deliveries:
            await self._bury(delivery, reason)
            return
        delay_s = self._limits.retry_delay_s * 2 ** (delivery.deliveries - 1)
        await self._persist(
            lambda: self._stream.retry(
                delivery, self._job.consumer, delay_s=min(delay_s, self._stream.abandoned_after_s)
            )
        )

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        payload = self._job.on_dead(delivery, reason)
        done = sent_on(delivery)
        took_effect = await self._persist(lambda: self._stream.bury(done, reason, payload))
        buried = metrics.DEAD_LETTERS if took_effect else metrics.RESULTS_DROPPED
        buried.labels(delivery.stage).inc()
        log.error("group buried", extra={"deliveries": delivery.deliveries, "reason": reason})

    async def _persist(self, write: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Write until it succeeds: the work behind it costs more than the wait."""
        pauses = _Pauses()
        while True:
            try:
                answer = await write()
            except StreamError as error:
                self._outage.began(error, of=write)
                await asyncio.sleep(pauses.next_s())
            else:
                self._outage.ended(of=write)
                return answer

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._stream.abandoned_after_s / 3)
            held = list(self._in_hand.values())
            try:
                lost = await self._stream.beat(held, self._job.consumer)
            except StreamError as error:
                self._outage.began(error, of="beat")
                continue
            self._outage.ended(of="beat")
            still_held = self._in_hand.values()
            for delivery in lost:
                if delivery in still_held:  # else it was finished while the beat was under way
                    log.warning(
                        "claim lost",
                        extra={"group_id": delivery.group_id, "stage": self._job.stage},
                    )

    async def _drain(self) -> None:
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=self._limits.drain_s)
        for task in self._in_hand:
            task.cancel()

    async def _hand_back(self) -> None:
        """Let other workers take what is left at once, if the stream can still be told."""
        try:
            async with asyncio.timeout(_HAND_BACK_S):
                await self._stream.release(self._interrupted, self._job.consumer)
                for delivery in self._crashed:
                    await self._stream.retry(delivery, self._job.consumer, delay_s=0.0)
        except (StreamError, TimeoutError) as error:
            left = len(self._interrupted) + len(self._crashed)
            log.warning(
                "deliveries left pending",
                extra={"stage": self._job.stage, "num_groups": left, "reason": str(error)},
            )


class _Outage:
    """Tells of the beginning and the end of an outage, once each.

    It lasts as long as any kind of call fails: a full Redis refuses writes and still gives out
    work.
    """

    def __init__(self, stage: Stage, activity: Activity) -> None:
        self._stage = stage
        self._activity = activity
        self._failing: set[object] = set()
        self._began_s = 0.0

    def began(self, error: StreamError, *, of: object) -> None:
        if not self._failing:
            self._began_s = time.monotonic()
            self._activity.hold(State.WAITING_FOR_QUEUES, f"Redis: {error}")
            log.warning("redis unreachable", extra={"stage": self._stage, "reason": str(error)})
        self._failing.add(of)

    def ended(self, *, of: object) -> None:
        if of not in self._failing:
            return
        self._failing.remove(of)
        if not self._failing:
            lasted_s = time.monotonic() - self._began_s
            self._activity.release(State.WAITING_FOR_QUEUES)
            log.info("redis reachable", extra={"stage": self._stage, "lasted_s": lasted_s})


class _Pauses:
    """Pauses between attempts: each twice the last, up to a cap."""

    def __init__(self) -> None:
        self._next_s = _FIRST_PAUSE_S

    def next_s(self) -> float:
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return pause_s


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()
