"""A rollout service installs versions by itself: before the first, no group is sent to it."""

import asyncio

from rlsd.errors import ServiceError, WeightsError
from rlsd.telemetry.activity import Activity, State
from rlsd.weights import FolderStore, Probe
from services.rollout.following import Follower


class Engine:
    """Holds what it is asked to; refuses as often as told."""

    def __init__(self, refusals=0):
        self.policy_version = -1
        self.asked = 0
        self.installed = asyncio.Event()
        self._refusals = refusals

    async def hold(self, required):
        self.asked += 1
        if self.asked <= self._refusals:
            raise WeightsError("torn")
        self.policy_version = required
        self.installed.set()


def publish(store, version):
    probe = Probe(token_ids=(1, 2), logprobs=(-1.0,))
    store.publish(version, step=version, probe=probe, save=lambda _: None)


def follower_of(engine, store, activity=None):
    return Follower(engine, store, activity or Activity())


async def following(follower):
    stopping = asyncio.Event()
    return stopping, asyncio.ensure_future(follower.follow(stopping))


async def installing(engine, store, activity=None):
    return await following(follower_of(engine, store, activity))


async def test_the_version_that_is_there_is_installed_and_the_service_goes_on(tmp_path):
    store, engine = FolderStore(tmp_path, "run"), Engine()
    publish(store, 4)
    stopping, task = await installing(engine, store)
    await asyncio.wait_for(engine.installed.wait(), 5)
    assert engine.policy_version == 4
    await asyncio.sleep(0)
    assert not task.done()  # a loop that returns would end the service
    stopping.set()
    await task
    assert engine.asked == 1


async def test_a_version_that_cannot_be_installed_is_tried_again(tmp_path):
    store, engine = FolderStore(tmp_path, "run"), Engine(refusals=1)
    publish(store, 0)
    stopping, task = await installing(engine, store)
    await asyncio.wait_for(engine.installed.wait(), 5)
    stopping.set()
    await task


async def test_until_then_it_says_what_it_waits_for_and_stops_when_told(tmp_path):
    engine, activity = Engine(), Activity()
    stopping, task = await installing(engine, FolderStore(tmp_path, "run"), activity)
    await asyncio.sleep(0)
    assert activity.snapshot().state is State.WAITING_FOR_WEIGHTS
    stopping.set()
    await asyncio.wait_for(task, 5)
    assert engine.asked == 0


async def test_a_later_version_is_installed_before_a_group_asks_for_it(tmp_path):
    store, engine = FolderStore(tmp_path, "run"), Engine()
    publish(store, 0)
    stopping, task = await installing(engine, store)
    await asyncio.wait_for(engine.installed.wait(), 5)
    engine.installed.clear()
    publish(store, 1)
    await asyncio.wait_for(engine.installed.wait(), 5)
    assert engine.policy_version == 1
    stopping.set()
    await task


class Away:
    """A store that cannot be reached for a while."""

    look_every_s = 0.01

    def __init__(self, version):
        self.version = version
        self.is_away = True

    def latest(self):
        if self.is_away:
            raise ServiceError("cannot be reached")
        return self.version


async def test_while_the_store_is_away_the_service_says_so_and_keeps_what_it_has(caplog):
    store, engine, activity = Away(5), Engine(), Activity()
    engine.policy_version = 4
    stopping, task = await installing(engine, store, activity)
    await asyncio.sleep(0.2)
    assert activity.snapshot().detail == "newer weights: cannot be reached"
    assert [r.message for r in caplog.records] == ["weights not installed"]  # once, not each time
    assert (engine.policy_version, engine.asked) == (4, 0)
    store.is_away = False
    await asyncio.wait_for(engine.installed.wait(), 5)
    await asyncio.sleep(0.1)
    assert engine.policy_version == 5
    assert activity.snapshot().state is not State.WAITING_FOR_WEIGHTS
    stopping.set()
    await task


def test_before_the_first_version_and_without_a_needed_one_no_group_is_taken():
    engine = Engine()
    follower = follower_of(engine, Away(0))
    assert follower.lacks() == "no weights are installed yet"
    engine.policy_version = 4
    assert follower.lacks() == ""
    follower.needs(6)
    follower.needs(5)
    assert follower.lacks() == "version 6 is needed, 4 is installed"
    engine.policy_version = 6
    assert follower.lacks() == ""


async def test_a_needed_version_that_the_store_does_not_show_is_said_until_it_is_here():
    store, engine, activity = Away(4), Engine(), Activity()
    store.is_away, engine.policy_version = False, 4
    follower = follower_of(engine, store, activity)
    follower.needs(5)
    stopping, task = await following(follower)
    await asyncio.sleep(0.1)
    assert activity.snapshot().detail == "version 5, which a group needs"
    store.version = 5
    await asyncio.wait_for(engine.installed.wait(), 5)
    await asyncio.sleep(0.1)
    assert follower.lacks() == ""
    assert activity.snapshot().state is not State.WAITING_FOR_WEIGHTS
    stopping.set()
    await task


async def test_while_the_store_is_away_a_needed_version_stays_needed():
    engine = Engine()
    engine.policy_version = 4
    follower = follower_of(engine, Away(5))
    follower.needs(5)
    stopping, task = await following(follower)
    await asyncio.sleep(0.1)
    assert follower.lacks()
    stopping.set()
    await task


async def test_a_damaged_version_is_not_waited_for_so_that_the_learner_hears_of_it():
    store, engine = Away(5), Engine(refusals=99)
    store.is_away, engine.policy_version = False, 4
    follower = follower_of(engine, store)
    follower.needs(5)
    stopping, task = await following(follower)
    await asyncio.sleep(0.1)
    assert engine.asked > 0
    assert follower.lacks() == ""
    stopping.set()
    await task
