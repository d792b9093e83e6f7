"""What the learner says of itself at each moment, and that its waits are progress."""

import asyncio

from test_loop import learner, run

from rlsd.errors import StreamError
from rlsd.telemetry.activity import Activity


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


async def test_it_says_which_step_it_is_at_and_where_the_groups_are(tmp_path, monkeypatch):
    loop, stages, rank = learner(tmp_path, lambda _: (1.0, 0.0), steps=1)
    said = []
    for owner, name in ((stages, "collect"), (rank, "lead")):
        inner = getattr(owner, name)

        def telling(*args, inner=inner, **kwargs):
            said.append(loop.activity.snapshot().words())
            return inner(*args, **kwargs)

        monkeypatch.setattr(owner, name, telling)
    await run(loop)
    assert said[:4] == [
        "busy 0 s: publish, step 0",
        "waiting 0 s for groups: 4 at train",
        "busy 0 s: train, step 1",
        "busy 0 s: publish, step 1",
    ]


async def test_a_wait_without_end_ticks_as_long_as_the_loop_turns(tmp_path, monkeypatch):
    clock, stopping, stalled = Clock(), asyncio.Event(), []
    activity = Activity(stall_after_s=120, clock=clock)
    loop, stages, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=1, activity=activity)

    async def nothing(*, wait_s):
        clock.now += 100
        stalled.append(activity.snapshot().stalled)
        if clock.now >= 500:
            stopping.set()
        return []

    monkeypatch.setattr(stages, "collect", nothing)
    await run(loop, stopping)
    assert stalled == [""] * 5


async def test_queues_that_are_away_are_what_it_waits_for(tmp_path, monkeypatch):
    monkeypatch.setattr("services.learner.gathering._COLLECT_WAIT_S", 0.0)
    clock, stopping, said = Clock(), asyncio.Event(), []
    activity = Activity(stall_after_s=120, clock=clock)
    loop, stages, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=1, activity=activity)

    async def refused():
        clock.now += 4
        said.append(activity.snapshot().words())
        if len(said) == 3:
            stopping.set()
        raise StreamError("no answer")

    monkeypatch.setattr(stages, "depths", refused)
    await run(loop, stopping)
    assert said == [
        "waiting 4 s for groups",
        "waiting 4 s for Redis: no answer",
        "waiting 8 s for Redis: no answer",
    ]
