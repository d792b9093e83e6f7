"""What a worker says of its queue, and the learner of all."""

import asyncio

import pytest
from metric_values import Changes, is_there
from prometheus_client import CollectorRegistry
from test_stream_worker import QUICK, arrivals, job, to_verify, working

from rlsd.errors import RlsdError, StreamError
from rlsd.streams.memory import MemoryStream
from rlsd.streams.metrics import QueueGauges
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Entry, Measured
from rlsd.streams.worker import work
from services.learner import queues

ROLLOUT = {"stage": "rollout"}


async def admit(stream, *group_ids):
    await stream.admit([Entry(group_id=g, payload=b"x") for g in group_ids], limit=99)


async def test_a_wait_is_measured_from_entering_the_stage_and_once():
    now = [100.0]
    stream = MemoryStream(clock=lambda: now[0])
    changes = Changes()
    await admit(stream, "a", "b")
    now[0] += 7
    async with working(stream, to_verify):
        await arrivals(stream, Stage.VERIFY, 2)
    assert changes("rlsd_queue_wait_seconds_count", **ROLLOUT) == 2
    assert changes("rlsd_queue_wait_seconds_sum", **ROLLOUT) == pytest.approx(14)
    assert changes("rlsd_queue_redeliveries_total", **ROLLOUT) == 0


async def test_attempts_after_the_first_and_groups_given_up_are_counted():
    stream, changes = MemoryStream(), Changes()

    async def fails(delivery):
        raise RlsdError("no")

    await admit(stream, "a")
    async with working(stream, fails):
        await arrivals(stream, Stage.TRAIN, 1)
    assert changes("rlsd_queue_wait_seconds_count", **ROLLOUT) == 1
    assert changes("rlsd_queue_redeliveries_total", **ROLLOUT) == QUICK.max_deliveries - 1
    assert changes("rlsd_queue_dead_letters_total", **ROLLOUT) == 1
    assert changes("rlsd_queue_results_dropped_total", **ROLLOUT) == 0


async def test_a_result_without_effect_is_counted_and_is_no_dead_letter():
    stream, changes = MemoryStream(), Changes()

    async def overtaken(delivery):
        stream._in_flight.pop(delivery.group_id)  # as after a wiped server
        if delivery.group_id == "b":
            raise RlsdError("no")
        return await to_verify(delivery)

    await admit(stream, "a", "b")
    limits = QUICK.__class__(max_deliveries=1)
    stopping = asyncio.Event()
    working_ = asyncio.create_task(work(stream, job(overtaken), stopping=stopping, limits=limits))
    async with asyncio.timeout(5):
        while changes("rlsd_queue_results_dropped_total", **ROLLOUT) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    stopping.set()
    await working_
    assert changes("rlsd_queue_dead_letters_total", **ROLLOUT) == 0


async def test_a_worker_has_its_counters_at_0_before_its_first_claim():
    stopping = asyncio.Event()
    stopping.set()
    taught = job(to_verify)
    taught = taught.__class__(
        stage=Stage.TEACH, consumer="c", process=to_verify, on_dead=taught.on_dead
    )
    await work(MemoryStream(), taught, stopping=stopping)
    for name in ("redeliveries", "dead_letters", "results_dropped"):
        assert is_there(f"rlsd_queue_{name}_total", stage="teach")


def measured(**changes):
    values = {
        "entries": dict.fromkeys(Stage, 3),
        "oldest_age_s": dict.fromkeys(Stage, 1.5),
        "memory_used_bytes": 1024,
        "memory_limit_bytes": 4096,
    }
    return Measured(**(values | changes))


def test_the_queues_are_shown_as_measured_and_not_once_that_is_old():
    now = [0.0]
    registry, gauges = CollectorRegistry(), QueueGauges(clock=lambda: now[0])
    registry.register(gauges)
    assert list(registry.collect()) == []
    gauges.set(measured())
    found = {
        "rlsd_queue_entries": registry.get_sample_value("rlsd_queue_entries", {"stage": "teach"}),
        "rlsd_queue_oldest_age_seconds": registry.get_sample_value(
            "rlsd_queue_oldest_age_seconds", {"stage": "train"}
        ),
        "rlsd_queue_memory_used_bytes": registry.get_sample_value("rlsd_queue_memory_used_bytes"),
        "rlsd_queue_memory_limit_bytes": registry.get_sample_value("rlsd_queue_memory_limit_bytes"),
    }
    assert list(found.values()) == [3, 1.5, 1024, 4096]
    now[0] = 16.0
    assert list(registry.collect()) == []


async def test_an_outage_takes_the_figures_away_and_they_come_back(monkeypatch):
    monkeypatch.setattr(queues, "_EVERY_S", 0.001)
    monkeypatch.setattr(queues, "_DEADLINE_S", 0.05)
    gauges, answer = QueueGauges(), ["good"]

    class Stream(MemoryStream):
        async def measure(self):
            if answer[0] == "refuses":
                raise StreamError("no answer")
            if answer[0] == "hangs":
                await asyncio.sleep(60)
            return measured()

    async def until(is_shown):
        async with asyncio.timeout(5):
            while bool(gauges.collect()) is not is_shown:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async with queues.measured(Stream(), gauges):
        for answer[0], is_shown in (
            ("good", True),
            ("refuses", False),
            ("good", True),
            ("hangs", False),
            ("good", True),
        ):
            await until(is_shown)
    assert gauges.collect() == []
