"""Seconds by state: every one counted once, whoever asks and whenever."""

import asyncio
import random
import threading

import pytest

from rlsd.telemetry.activity import Activity, Obstacle, Part, State


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def activity(clock):
    return Activity(clock=clock)


def spent(activity):
    return {s.value: seconds for s, seconds in activity.seconds().items() if seconds}


def test_a_second_counts_although_nothing_changes(activity, clock):
    activity.enter(State.WAITING_FOR_WORK, "groups")
    for now in (1.0, 2.0, 7.5):
        clock.now = now
        assert spent(activity) == {"waiting_for_work": now}


def test_what_is_visible_counts_not_what_is_behind_it(activity, clock):
    activity.enter(State.WAITING_FOR_WORK, "groups")
    clock.now = 1
    with activity.working():
        clock.now = 3
        activity.hold(State.WAITING_FOR_QUEUES, "Redis: no answer")
        clock.now = 7
        activity.release(State.WAITING_FOR_QUEUES)
        clock.now = 15
    clock.now = 31
    activity.enter(State.CHECKPOINTING, "step 3")
    clock.now = 63
    assert spent(activity) == {
        "waiting_for_work": 1 + 16,
        "busy": 2 + 8,
        "waiting_for_queues": 4,
        "checkpointing": 32,
    }


def test_what_is_only_found_by_looking_counts_from_the_look_on(activity, clock):
    found = [None]
    activity.watch(lambda: found[0])
    with activity.working():
        clock.now = 1
        activity.seconds()
        found[0] = Obstacle(detail="the verifier", for_s=0.0)
        clock.now = 2
        activity.seconds()
        clock.now = 5
        assert spent(activity) == {"busy": 2, "waiting_for_service": 3}


async def test_the_beat_looks_without_a_scrape(activity, clock):
    found = [Obstacle(detail="the verifier", for_s=0.0)]
    activity.watch(lambda: found[0])
    async with activity.beating(Part.EVENTS):
        await asyncio.sleep(0)
    clock.now = 9
    assert spent(activity) == {"waiting_for_service": 9}


def test_the_sum_grows_with_the_clock_and_no_state_ever_shrinks(activity, clock):
    chance = random.Random(0)
    before = activity.seconds()
    for _ in range(500):
        clock.now += chance.random()
        state = chance.choice(list(State))
        chance.choice((activity.enter, activity.hold))(state, "")
        activity.release(chance.choice(list(State)))
        after = activity.seconds()
        assert all(after[s] >= before[s] for s in State)
        assert sum(after.values()) == pytest.approx(clock.now)
        before = after


def test_threads_that_ask_and_one_that_changes_lose_and_double_nothing():
    activity = Activity()
    begun = activity._counted_until
    stop = threading.Event()
    shrunk = []

    def asking():
        before = activity.seconds()
        while not stop.is_set():
            after = activity.seconds()
            shrunk.extend(s for s in State if after[s] < before[s])
            before = after

    threads = [threading.Thread(target=asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(2000):
        activity.enter(State.BUSY if n % 2 else State.WAITING_FOR_WORK, str(n))
    stop.set()
    for thread in threads:
        thread.join()
    total = sum(activity.seconds().values())
    assert shrunk == []
    assert total == pytest.approx(activity._counted_until - begun, abs=1e-6)
