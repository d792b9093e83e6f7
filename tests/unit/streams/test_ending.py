"""Loops over Redis end when told to, even where a write answers instead of being cancelled."""

import asyncio

from test_stream_worker import job, to_verify

from rlsd.streams.ending import end
from rlsd.streams.memory import MemoryStream
from rlsd.streams.metrics import QueueGauges
from rlsd.streams.worker import work
from services.learner import queues


class Writes:
    """Calls the first of which goes on when it is cancelled."""

    def __init__(self):
        self.began = asyncio.Event()

    async def __call__(self):
        if self.began.is_set():
            return
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return


async def test_a_cancellation_that_comes_with_the_answer_of_a_write_is_asked_again():
    written = asyncio.get_running_loop().create_future()

    async def loop():
        await asyncio.wait_for(written, 60)  # as redis-py writes
        await asyncio.Event().wait()

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    written.set_result(None)
    async with asyncio.timeout(5):
        await end(task)
    assert task.cancelled()


async def test_the_measuring_of_the_queues_ends_with_its_context():
    writes = Writes()

    class Stream(MemoryStream):
        async def measure(self):
            await writes()
            return await super().measure()

    async with asyncio.timeout(5):
        async with queues.measured(Stream(), QueueGauges()):
            await writes.began.wait()


async def test_a_worker_ends_although_its_beat_goes_on():
    writes, stopping = Writes(), asyncio.Event()

    class Stream(MemoryStream):
        async def beat(self, deliveries, consumer):
            await writes()
            return await super().beat(deliveries, consumer)

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(work(Stream(abandoned_after_s=0.03), job(to_verify), stopping=stopping))
        await writes.began.wait()
        stopping.set()
