import asyncio
import threading

import pytest

from rlsd.serving.batcher import Batcher


async def test_what_arrives_while_a_batch_runs_is_the_next_batch():
    gate, batches = threading.Event(), []
    loop, started = asyncio.get_running_loop(), asyncio.Event()

    def run(items):
        batches.append(items)
        loop.call_soon_threadsafe(started.set)
        gate.wait(5)
        return [item * 10 for item in items]

    async with Batcher(run, max_items=8) as batcher:
        first = asyncio.ensure_future(batcher.submit(1))
        await started.wait()
        rest = [asyncio.ensure_future(batcher.submit(i)) for i in (2, 3, 4)]
        await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(first, *rest) == [10, 20, 30, 40]
    assert batches == [[1], [2, 3, 4]]


async def test_a_batch_is_never_larger_than_allowed():
    sizes = []

    def run(items):
        sizes.append(len(items))
        return list(items)

    async with Batcher(run, max_items=3) as batcher:
        assert await asyncio.gather(*(batcher.submit(i) for i in range(10))) == list(range(10))
    assert max(sizes) <= 3


async def test_one_items_error_is_its_own():
    async with Batcher(
        lambda items: [ValueError("bad") if i == 1 else i for i in items], max_items=8
    ) as batcher:
        results = await asyncio.gather(
            *(batcher.submit(i) for i in range(3)), return_exceptions=True
        )
    assert (results[0], str(results[1]), results[2]) == (0, "bad", 2)


async def test_a_batch_that_crashes_reaches_every_caller_and_the_next_one_works():
    def run(items):
        if 0 in items:
            raise RuntimeError("out of memory")
        return list(items)

    async with Batcher(run, max_items=8) as batcher:
        with pytest.raises(RuntimeError, match="out of memory"):
            await batcher.submit(0)
        assert await batcher.submit(1) == 1


async def test_a_caller_that_gave_up_does_not_disturb_the_others():
    async with Batcher(lambda items: list(items), max_items=8) as batcher:
        gone = asyncio.ensure_future(batcher.submit(1))
        kept = asyncio.ensure_future(batcher.submit(2))
        await asyncio.sleep(0)
        gone.cancel()
        assert await kept == 2


async def test_its_thread_pulses_while_nothing_arrives_and_after_each_batch():
    loop, pulsed, threads = asyncio.get_running_loop(), asyncio.Event(), set()

    def pulse():
        threads.add(threading.current_thread().name)
        loop.call_soon_threadsafe(pulsed.set)

    async with Batcher(lambda items: list(items), max_items=8, pulse=pulse) as batcher:
        for _ in range(2):
            pulsed.clear()
            await asyncio.wait_for(pulsed.wait(), 5)
        assert await batcher.submit(1) == 1
        pulsed.clear()
        await asyncio.wait_for(pulsed.wait(), 5)
    assert threads == {"compute_0"}
