"""A group whose weights cannot be reached waits for them; one whose weights are damaged fails."""

import asyncio

import pytest
from builders import make_group, make_prompt

from rlsd.errors import EngineError, RlsdError, ServiceError, WeightsError
from rlsd.streams.memory import MemoryStream
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery, Entry
from rlsd.streams.worker import Job, Limits, work
from rlsd.telemetry.activity import Activity
from rlsd.trajectory import SamplingParams
from rlsd.wire.convert import encode, encode_failed
from services.rollout.following import Follower
from services.rollout.service import RolloutService

QUICK = Limits(max_in_flight=4, max_deliveries=3, retry_delay_s=0.001, drain_s=5.0)


class Store:
    look_every_s = 0.01

    def __init__(self, error):
        self.error = error

    def latest(self):
        if isinstance(self.error, EngineError):  # it shows an older one
            return 4
        if isinstance(self.error, ServiceError):
            raise self.error
        return 5


class Engine:
    """Has version 4; a newer one comes from the store, unless that has an error."""

    policy_version = 4

    def __init__(self, store):
        self.store = store

    def tokenize(self, messages):
        return [1, 2]

    async def hold(self, required):
        if self.policy_version < required and self.store.error:
            raise self.store.error
        self.policy_version = max(self.policy_version, required)

    async def generate(self, request):
        await self.hold(request.required_policy_version)
        return []


def group_at(version, index=0):
    sampling = SamplingParams(num_completions=1, seed=1)
    return make_group(
        index=index,
        prompt=make_prompt("?"),
        sampling=sampling,
        required_policy_version=version,
        trajectories=(),
    )


def delivery_of(group):
    return Delivery(
        stage=Stage.ROLLOUT,
        entry_id="1-0",
        group_id=group.group_id,
        payload=encode(group),
        deliveries=1,
        trace="",
    )


def service_of(engine, missing):
    return RolloutService(engine, engine_name="e", run_id="r", on_missing=missing)


@pytest.mark.parametrize(
    ("error", "required", "told"),
    [
        (EngineError("version 5 is required, newest published: 4"), 5, [5]),
        (ServiceError("cannot be reached"), 5, [5]),
        (WeightsError("checksum differs"), 5, []),
    ],
)
async def test_what_cannot_be_reached_is_told_and_what_is_damaged_is_not(error, required, told):
    missing = []
    service = service_of(Engine(Store(error)), missing.append)
    with pytest.raises(type(error)):
        await service.process(delivery_of(group_at(required)))
    assert missing == told


async def test_an_engine_that_fails_with_the_weights_that_are_needed_misses_none():
    class Broken(Engine):
        async def generate(self, request):
            raise EngineError("out of memory")

    missing = []
    with pytest.raises(EngineError):
        await service_of(Broken(Store(None)), missing.append).process(delivery_of(group_at(4)))
    assert missing == []


async def attempts_while(error, *, lasts_s):
    """Have a replica work on a group for version 5; its attempts, and what is at the next stage."""
    stream, stopping, attempts = MemoryStream(), asyncio.Event(), []
    group = group_at(5)
    await stream.admit([Entry(group_id=group.group_id, payload=encode(group))], limit=9)
    store = Store(error)
    engine = Engine(store)
    follower = Follower(engine, store, Activity())
    service = service_of(engine, follower.needs)

    async def process(delivery):
        attempts.append(delivery.deliveries)
        return await service.process(delivery)

    job = Job(
        stage=Stage.ROLLOUT,
        consumer="ann",
        process=process,
        on_dead=lambda d, reason: encode_failed(d.payload, d.group_id, reason),
        lacks=follower.lacks,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work(stream, job, stopping=stopping, limits=QUICK))
        tasks.create_task(follower.follow(stopping))
        await asyncio.sleep(lasts_s)
        buried = await stream.dead_letters(9)
        store.error = None
        store.latest = lambda: 5
        moved = await stream.claim(Stage.VERIFY, "next", count=1, wait_s=2)
        stopping.set()
    return attempts, buried, moved


@pytest.mark.parametrize(
    "error", [ServiceError("cannot be reached"), EngineError("newest published: 4")], ids=type
)
async def test_a_group_waits_for_weights_that_are_away_however_often_it_is_tried(
    error: RlsdError,
):
    attempts, buried, moved = await attempts_while(error, lasts_s=0.5)
    assert attempts[0] == attempts[-1] == 1
    assert buried == []
    assert len(moved) == 1


async def test_a_group_whose_weights_are_damaged_is_buried_for_the_learner_to_hear():
    attempts, buried, _ = await attempts_while(WeightsError("checksum differs"), lasts_s=1.0)
    assert attempts == [1, 2, 3]
    assert [letter.reason for letter in buried] == ["WeightsError: checksum differs"]
