"""The worker loop over the in-memory twin."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from rlsd.errors import RlsdError, StreamError
from rlsd.streams.memory import MemoryStream
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery, Entry, GroupStream
from rlsd.streams.worker import Advance, Job, Limits, work

QUICK = Limits(max_in_flight=4, max_deliveries=3, retry_delay_s=0.001, drain_s=5.0)

Process = Callable[[Delivery], Awaitable[Advance]]


class Broken(Exception):
    """Not an RlsdError: a defect in the service."""


class FlakyStream(MemoryStream):
    """A memory stream whose server can be taken away."""

    def __init__(self, **options: float) -> None:
        super().__init__(**options)
        self.refused = asyncio.Event()
        self.is_down = False

    def _answer(self) -> None:
        if self.is_down:
            self.refused.set()
            raise StreamError("no answer")

    async def claim(self, *args, **kwargs):
        self._answer()
        return await super().claim(*args, **kwargs)

    async def advance(self, *args, **kwargs):
        self._answer()
        return await super().advance(*args, **kwargs)

    async def beat(self, *args, **kwargs):
        self._answer()
        return await super().beat(*args, **kwargs)

    async def release(self, *args, **kwargs):
        self._answer()
        return await super().release(*args, **kwargs)


class FullStream(MemoryStream):
    """A memory stream that gives out work and has no room for more."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = asyncio.Event()
        self.is_full = True

    async def advance(self, *args, **kwargs):
        if self.is_full:
            self.refused.set()
            raise StreamError("no room")
        return await super().advance(*args, **kwargs)


async def admit(stream: GroupStream, *group_ids: str) -> None:
    await stream.admit([Entry(group_id=g, payload=g.encode()) for g in group_ids], limit=99)


def job(process: Process, *, consumer: str = "ann") -> Job:
    return Job(
        stage=Stage.ROLLOUT,
        consumer=consumer,
        process=process,
        on_dead=lambda delivery, reason: f"{delivery.group_id} failed: {reason}".encode(),
    )


async def to_verify(delivery: Delivery) -> Advance:
    return Advance(to_stage=Stage.VERIFY, payload=delivery.payload.upper())


@contextlib.asynccontextmanager
async def working(
    stream: GroupStream, process: Process, *, limits: Limits = QUICK
) -> AsyncIterator[asyncio.Event]:
    """A worker that is stopped, and has ended well, when the context is left."""
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work(stream, job(process), stopping=stopping, limits=limits))
        yield stopping
        stopping.set()


async def arrivals(stream: GroupStream, stage: Stage, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += await stream.claim(stage, "test", count=count, wait_s=1)
    return found


async def test_worker_advances_what_it_claims():
    stream = MemoryStream()
    await admit(stream, "a", "b")
    async with working(stream, to_verify):
        moved = await arrivals(stream, Stage.VERIFY, 2)
    assert [d.payload for d in moved] == [b"A", b"B"]
    assert await stream.depth(Stage.ROLLOUT) == 0


async def test_a_worker_that_lacks_something_leaves_the_groups_to_others():
    stream, stopping, missing = MemoryStream(), asyncio.Event(), ["no weights"]
    await admit(stream, "a")
    without = replace(job(to_verify), lacks=lambda: missing[0] if missing else "")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work(stream, without, stopping=stopping, limits=QUICK))
        await asyncio.sleep(0.7)  # more than it sleeps at once
        [untouched] = await stream.claim(Stage.ROLLOUT, "other", count=1, wait_s=0)
        assert untouched.deliveries == 1
        await stream.release([untouched], "other")
        missing.clear()
        [moved] = await arrivals(stream, Stage.VERIFY, 1)
        stopping.set()
    assert moved.payload == b"A"


async def test_a_group_that_fails_for_what_its_worker_lacks_is_given_back_uncounted():
    stream, stopping, missing, seen = MemoryStream(), asyncio.Event(), [], []
    await admit(stream, "a")

    async def needs_newer_weights(delivery: Delivery) -> Advance:
        seen.append(delivery.deliveries)
        if len(seen) <= 2 * QUICK.max_deliveries:
            missing.append("version 5")
            raise RlsdError("not published")
        return await to_verify(delivery)

    def lacks() -> str:
        return missing.pop() if missing else ""

    async with asyncio.TaskGroup() as tasks:
        without = replace(job(needs_newer_weights), lacks=lacks)
        tasks.create_task(work(stream, without, stopping=stopping, limits=QUICK))
        [moved] = await arrivals(stream, Stage.VERIFY, 1)
        stopping.set()
    assert moved.payload == b"A"
    assert set(seen) == {1}


async def test_worker_processes_concurrently_up_to_its_limit():
    stream, together, running = MemoryStream(), asyncio.Barrier(4), 0
    highest = 0

    async def meet(delivery: Delivery) -> Advance:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await together.wait()  # passes only when four deliveries are in hand at once
        running -= 1
        return await to_verify(delivery)

    await admit(stream, *(f"g{i}" for i in range(12)))
    async with working(stream, meet):
        await arrivals(stream, Stage.VERIFY, 12)
    assert highest == 4


async def test_worker_retries_a_failure_and_then_succeeds():
    stream, attempts = MemoryStream(), []

    async def third_time_lucky(delivery: Delivery) -> Advance:
        attempts.append(delivery.deliveries)
        if delivery.deliveries < 3:
            raise RlsdError("not yet")
        return await to_verify(delivery)

    await admit(stream, "a")
    async with working(stream, third_time_lucky):
        await arrivals(stream, Stage.VERIFY, 1)
    assert attempts == [1, 2, 3]
    assert await stream.dead_letters(9) == []


async def test_worker_buries_what_keeps_failing_with_the_reason():
    stream = MemoryStream()

    async def fail(delivery: Delivery) -> Advance:
        raise RlsdError("engine on fire")

    await admit(stream, "a")
    async with working(stream, fail):
        [failed] = await arrivals(stream, Stage.TRAIN, 1)
    assert failed.payload == b"a failed: RlsdError: engine on fire"
    [letter] = await stream.dead_letters(9)
    assert (letter.group_id, letter.deliveries) == ("a", 3)
    assert letter.reason == "RlsdError: engine on fire"


async def test_group_that_kills_its_workers_is_buried_unprocessed():
    stream = MemoryStream(abandoned_after_s=30)
    await admit(stream, "a")
    for _ in range(3):
        [delivery] = await stream.claim(Stage.ROLLOUT, "killed", count=1, wait_s=0)
        await stream.retry(delivery, "killed", delay_s=0)

    async def unreachable(delivery: Delivery) -> Advance:
        raise AssertionError("processed once more")

    async with working(stream, unreachable):
        [failed] = await arrivals(stream, Stage.TRAIN, 1)
    assert failed.payload == b"a failed: no outcome after 3 deliveries"


async def test_worker_keeps_a_long_claim_alive():
    stream, started, finish = MemoryStream(abandoned_after_s=0.06), asyncio.Event(), asyncio.Event()

    async def long(delivery: Delivery) -> Advance:
        started.set()
        await finish.wait()
        return await to_verify(delivery)

    await admit(stream, "a")
    async with working(stream, long):
        await started.wait()
        assert await stream.claim(Stage.ROLLOUT, "bob", count=1, wait_s=0.2) == []
        finish.set()


async def test_stop_lets_deliveries_in_hand_finish_and_claims_no_more():
    stream, started, finish = MemoryStream(), asyncio.Event(), asyncio.Event()

    async def process(delivery: Delivery) -> Advance:
        started.set()
        await finish.wait()
        return await to_verify(delivery)

    await admit(stream, "a", "b")
    async with working(stream, process, limits=Limits(max_in_flight=1)) as stopping:
        await started.wait()
        stopping.set()
        finish.set()
    assert await stream.in_flight() == {"a": Stage.VERIFY, "b": Stage.ROLLOUT}


async def test_stop_releases_what_does_not_finish_in_time():
    stream, started = MemoryStream(), asyncio.Event()

    async def hang(delivery: Delivery) -> Advance:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    await admit(stream, "a")
    async with working(stream, hang, limits=Limits(drain_s=0.01)):
        await started.wait()
    [delivery] = await stream.claim(Stage.ROLLOUT, "bob", count=1, wait_s=0)
    assert (delivery.group_id, delivery.deliveries) == ("a", 1)


async def test_cancelled_worker_releases_what_it_holds():
    stream, started = MemoryStream(), asyncio.Event()

    async def hang(delivery: Delivery) -> Advance:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    await admit(stream, "a")
    async with asyncio.TaskGroup() as tasks:
        worker = tasks.create_task(work(stream, job(hang), stopping=asyncio.Event()))
        await started.wait()
        worker.cancel()
    assert worker.cancelled()
    assert await stream.claim(Stage.ROLLOUT, "bob", count=1, wait_s=0)


async def test_crash_propagates_counts_its_attempt_and_releases_the_rest():
    stream, together = MemoryStream(), asyncio.Barrier(2)

    async def crash_on_a(delivery: Delivery) -> Advance:
        await together.wait()
        if delivery.group_id == "a":
            raise Broken
        await asyncio.Event().wait()
        raise AssertionError

    await admit(stream, "a", "b")
    with pytest.raises(ExceptionGroup) as raised:
        await work(stream, job(crash_on_a), stopping=asyncio.Event())
    assert raised.group_contains(Broken)
    left = await stream.claim(Stage.ROLLOUT, "bob", count=9, wait_s=0)
    assert {d.group_id: d.deliveries for d in left} == {"a": 2, "b": 1}


async def test_worker_outlives_an_outage_and_keeps_finished_work(caplog):
    caplog.set_level(logging.INFO, logger="rlsd.streams.worker")
    stream, finish, attempts = FlakyStream(abandoned_after_s=30), asyncio.Event(), 0

    async def process(delivery: Delivery) -> Advance:
        nonlocal attempts
        attempts += 1
        stream.is_down = True
        await finish.wait()
        return await to_verify(delivery)

    await admit(stream, "a")
    async with working(stream, process):
        await stream.refused.wait()
        finish.set()
        stream.refused.clear()
        await stream.refused.wait()
        stream.is_down = False
        await arrivals(stream, Stage.VERIFY, 1)
    assert attempts == 1
    said = [record.message for record in caplog.records if record.message.startswith("redis")]
    assert said == ["redis unreachable", "redis reachable"]


async def test_a_full_server_is_an_outage_although_it_still_gives_out_work(caplog):
    caplog.set_level(logging.INFO, logger="rlsd.streams.worker")
    stream = FullStream()
    await admit(stream, "a")
    async with working(stream, to_verify):
        for more in ("b", "c"):
            await stream.refused.wait()
            stream.refused.clear()
            await admit(stream, more)
        await stream.refused.wait()
        stream.is_full = False
        await arrivals(stream, Stage.VERIFY, 3)
    said = [record.message for record in caplog.records if record.message.startswith("redis")]
    assert said == ["redis unreachable", "redis reachable"]


async def test_worker_stops_while_the_stream_is_down(caplog):
    stream = FlakyStream()
    stream.is_down = True
    async with asyncio.timeout(2), working(stream, to_verify):
        await stream.refused.wait()
    assert "redis unreachable" in caplog.text


async def test_transition_backwards_is_a_defect_of_the_service():
    stream = MemoryStream()

    async def stay(delivery: Delivery) -> Advance:
        return Advance(to_stage=Stage.ROLLOUT, payload=b"")

    await admit(stream, "a")
    with pytest.raises(ExceptionGroup) as raised:
        await work(stream, job(stay), stopping=asyncio.Event())
    assert raised.group_contains(ValueError, match="stages only go forward")
