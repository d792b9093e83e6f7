"""What a GroupStream promises, asked of Redis and of its in-memory twin alike."""

from __future__ import annotations

import asyncio

import pytest

from rlsd.streams.stage import Stage
from rlsd.streams.stream import DeadLetter, Delivery, Entry, GroupStream

ROLLOUT, VERIFY, TEACH, TRAIN = Stage
LONG_S = 0.25
"""Longer than the twins' abandoned_after_s."""


def entries(*group_ids: str) -> list[Entry]:
    return [Entry(group_id=group_id, payload=b"prompt") for group_id in group_ids]


async def take(
    stream: GroupStream, consumer: str = "ann", *, stage: Stage = ROLLOUT, count: int = 8
) -> list[Delivery]:
    return await stream.claim(stage, consumer, count=count, wait_s=0)


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.group_id for delivery in deliveries]


async def test_retry_of_admit_changes_nothing(twin):
    first = await twin.stream.admit(entries("a", "b", "c"), limit=2)
    again = await twin.stream.admit(entries("a", "b", "c"), limit=2)
    assert first == again == ["a", "b"]
    assert await twin.stream.depth(ROLLOUT) == 2


async def test_retry_of_admit_does_not_move_a_group_back(twin):
    await twin.stream.admit(entries("a"), limit=2)
    [delivery] = await take(twin.stream)
    await twin.stream.advance(delivery, VERIFY, b"")
    assert await twin.stream.admit(entries("a"), limit=2) == ["a"]
    assert await twin.stream.in_flight() == {"a": VERIFY}
    assert await twin.stream.depth(ROLLOUT) == 0


async def test_credits_bound_what_is_in_flight_at_all_stages(twin):
    await twin.stream.admit(entries("a", "b"), limit=2)
    [first, _] = await take(twin.stream)
    await twin.stream.advance(first, TRAIN, b"")
    assert await twin.stream.admit(entries("c"), limit=2) == []
    assert await twin.stream.in_flight() == {"a": TRAIN, "b": ROLLOUT}


async def test_admit_keeps_the_order_offered(twin):
    await twin.stream.admit(entries("c", "a", "b"), limit=9)
    assert ids(await take(twin.stream)) == ["c", "a", "b"]


async def test_claim_hands_each_group_to_one_consumer(twin):
    await twin.stream.admit(entries("a", "b", "c"), limit=9)
    assert ids(await take(twin.stream, "ann", count=2)) == ["a", "b"]
    assert ids(await take(twin.stream, "bob", count=2)) == ["c"]
    assert await take(twin.stream, "ann") == []


async def asking(stream: GroupStream, consumer: str, num_rooms: int) -> list[Delivery]:
    """What a consumer has after half a second of asking whenever it has room, as a worker does."""
    held: list[Delivery] = []
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.5
    while loop.time() < until:
        await stream.beat(held, consumer)
        if len(held) == num_rooms:
            await asyncio.sleep(0.05)
            continue
        count = num_rooms - len(held)
        held += await stream.claim(ROLLOUT, consumer, count=count, wait_s=0.05)
    return held


async def while_asked(twin, *rooms: int, num_groups: int) -> list[int]:
    """How many of the groups each consumer gets that are admitted while all of them ask."""
    consumers = ("ann", "bob", "eve")
    async with asyncio.TaskGroup() as tasks:
        held = [
            tasks.create_task(asking(twin.stream, consumer, room))
            for consumer, room in zip(consumers, rooms, strict=False)
        ]
        await asyncio.sleep(0.1)
        groups = entries(*(f"g{number}" for number in range(num_groups)))
        await twin.stream.admit(groups, limit=num_groups)
    return [len(task.result()) for task in held]


async def test_those_who_ask_share_what_is_admitted(patient_twin):
    assert await while_asked(patient_twin, 32, 32, num_groups=16) == [8, 8]
    await patient_twin.stream.clear()
    assert max(await while_asked(patient_twin, 32, 32, 32, num_groups=16)) == 6  # of 5⅓ in the mean


async def test_what_others_have_no_room_for_is_not_kept_for_them(patient_twin):
    assert await while_asked(patient_twin, 32, 2, num_groups=16) == [14, 2]


async def test_a_consumer_alone_has_all_at_once(twin):
    await twin.stream.admit(entries(*"abcdefgh"), limit=8)
    assert ids(await twin.stream.claim(ROLLOUT, "ann", count=8, wait_s=5)) == [*"abcdefgh"]


async def waiting_claim(stream: GroupStream, stage: Stage) -> list[str]:
    """Group ids; in less than the half second after which an idle claim looks by itself."""
    async with asyncio.timeout(0.4):
        return ids(await stream.claim(stage, "waiting", count=1, wait_s=5))


async def test_waiting_claim_wakes_on_admission(twin):
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(waiting_claim(twin.stream, ROLLOUT))
        await asyncio.sleep(0.02)
        await twin.stream.admit(entries("a"), limit=1)
    assert waiting.result() == ["a"]


async def test_waiting_claim_wakes_on_a_transition(twin):
    await twin.stream.admit(entries("a"), limit=1)
    [delivery] = await take(twin.stream)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(waiting_claim(twin.stream, VERIFY))
        await asyncio.sleep(0.02)
        await twin.stream.advance(delivery, VERIFY, b"")
    assert waiting.result() == ["a"]


async def test_waiting_claim_wakes_on_a_release(twin):
    await twin.stream.admit(entries("a"), limit=1)
    held = await take(twin.stream, "ann")
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(waiting_claim(twin.stream, ROLLOUT))
        await asyncio.sleep(0.02)
        await twin.stream.release(held, "ann")
    assert waiting.result() == ["a"]


async def test_cancelled_waiting_claim_strands_nothing(twin):
    assert await take(twin.stream) == []  # connects: it is the waiting that is cancelled here
    waiting = asyncio.ensure_future(twin.stream.claim(ROLLOUT, "ann", count=1, wait_s=5))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await twin.stream.admit(entries("a"), limit=1)
    assert ids(await twin.stream.claim(ROLLOUT, "bob", count=1, wait_s=1)) == ["a"]


async def test_claim_gives_up_after_its_wait(twin):
    assert await twin.stream.claim(ROLLOUT, "ann", count=1, wait_s=0.02) == []


async def test_group_of_a_killed_worker_is_finished_by_another(twin):
    await twin.stream.admit(entries("a"), limit=1)
    await take(twin.stream, "killed")
    assert await take(twin.stream, "bob") == []
    await twin.elapse(LONG_S)
    [delivery] = await take(twin.stream, "bob")
    assert (delivery.group_id, delivery.payload, delivery.deliveries) == ("a", b"prompt", 2)
    assert await twin.stream.advance(delivery, VERIFY, b"done")


async def test_abandoned_group_is_found_behind_many_live_claims(twin):
    group_ids = [f"g{i}" for i in range(40)]
    await twin.stream.admit(entries(*group_ids), limit=40)
    held = await take(twin.stream, "ann", count=40)
    await twin.elapse(LONG_S)
    await twin.stream.beat(held[:-1], "ann")
    assert ids(await take(twin.stream, "bob", count=1)) == ["g39"]


async def test_zombie_that_finishes_late_has_no_effect(twin):
    await twin.stream.admit(entries("a"), limit=1)
    [zombie] = await take(twin.stream, "zombie")
    await twin.elapse(LONG_S)
    [delivery] = await take(twin.stream, "bob")
    assert await twin.stream.advance(delivery, VERIFY, b"bob's")
    assert not await twin.stream.advance(zombie, VERIFY, b"zombie's")
    assert not await twin.stream.bury(zombie, "late", b"zombie's")
    [verified] = await take(twin.stream, stage=VERIFY)
    assert verified.payload == b"bob's"
    assert await twin.stream.dead_letters(9) == []


async def test_zombie_that_finishes_first_leaves_nothing_for_the_second(twin):
    await twin.stream.admit(entries("a"), limit=1)
    [zombie] = await take(twin.stream, "zombie")
    await twin.elapse(LONG_S)
    [delivery] = await take(twin.stream, "bob")
    assert await twin.stream.advance(zombie, VERIFY, b"zombie's")
    assert not await twin.stream.advance(delivery, VERIFY, b"bob's")
    assert await twin.stream.depth(ROLLOUT) == 0
    assert await twin.stream.depth(VERIFY) == 1


async def test_advance_twice_adds_once(twin):
    await twin.stream.admit(entries("a"), limit=1)
    [delivery] = await take(twin.stream)
    assert await twin.stream.advance(delivery, VERIFY, b"")
    assert not await twin.stream.advance(delivery, VERIFY, b"")
    assert (await twin.stream.depth(ROLLOUT), await twin.stream.depth(VERIFY)) == (0, 1)


async def test_advance_may_skip_stages_but_not_go_back(twin):
    await twin.stream.admit(entries("a"), limit=1)
    [delivery] = await take(twin.stream)
    assert await twin.stream.advance(delivery, TRAIN, b"rejected")
    [last] = await take(twin.stream, stage=TRAIN)
    for stage in Stage:
        with pytest.raises(ValueError, match="stages only go forward"):
            await twin.stream.advance(last, stage, b"")


async def test_trace_rides_along(twin):
    await twin.stream.admit([Entry(group_id="a", payload=b"", trace="00-ab-cd-01")], limit=1)
    [delivery] = await take(twin.stream)
    await twin.stream.advance(delivery, VERIFY, b"")
    [verified] = await take(twin.stream, stage=VERIFY)
    assert delivery.trace == verified.trace == "00-ab-cd-01"


async def test_bury_reaches_the_dead_letters_and_the_train_stage_once(twin):
    await twin.stream.admit(entries("a"), limit=1)
    [delivery] = await take(twin.stream)
    assert await twin.stream.bury(delivery, "engine died", b"failed")
    assert not await twin.stream.bury(delivery, "engine died", b"failed")
    letter = DeadLetter(
        group_id="a", stage=ROLLOUT, reason="engine died", deliveries=1, trace=delivery.trace
    )
    assert await twin.stream.dead_letters(9) == [letter]
    [failed] = await take(twin.stream, stage=TRAIN)
    assert failed.payload == b"failed"
    assert await twin.stream.in_flight() == {"a": TRAIN}


async def test_dead_letters_come_newest_first(twin):
    await twin.stream.admit(entries("a", "b", "c"), limit=3)
    for delivery in await take(twin.stream):
        await twin.stream.bury(delivery, "broken", b"")
    assert [letter.group_id for letter in await twin.stream.dead_letters(2)] == ["c", "b"]


async def test_release_hands_over_at_once_as_if_never_delivered(twin):
    await twin.stream.admit(entries("a"), limit=1)
    await twin.stream.release(await take(twin.stream, "ann"), "ann")
    [delivery] = await take(twin.stream, "bob")
    assert (delivery.group_id, delivery.deliveries) == ("a", 1)


async def test_released_group_comes_before_new_ones(twin):
    await twin.stream.admit(entries("a", "b"), limit=2)
    await twin.stream.release(await take(twin.stream, "ann", count=1), "ann")
    assert ids(await take(twin.stream, "bob")) == ["a", "b"]


async def test_release_of_a_claim_that_passed_on_changes_nothing(twin):
    await twin.stream.admit(entries("a"), limit=1)
    stale = await take(twin.stream, "ann")
    await twin.stream.release(stale, "ann")
    [held] = await take(twin.stream, "bob")
    await twin.stream.release(stale, "ann")
    assert await take(twin.stream, "cy") == []
    assert await twin.stream.beat([held], "bob") == []


async def test_retry_counts_the_attempt_and_waits_its_delay(twin):
    await twin.stream.admit(entries("a"), limit=1)
    [delivery] = await take(twin.stream, "ann")
    await twin.stream.retry(delivery, "ann", delay_s=0.15)
    assert await take(twin.stream, "bob") == []
    await twin.elapse(0.16)
    [again] = await take(twin.stream, "bob")
    assert again.deliveries == 2


async def test_every_attempt_is_counted_whoever_makes_it(twin):
    await twin.stream.admit(entries("a"), limit=1)
    for attempt, consumer in enumerate(["ann", "bob", "ann", "cy"], start=1):
        [delivery] = await take(twin.stream, consumer)
        assert delivery.deliveries == attempt
        await twin.stream.retry(delivery, consumer, delay_s=0)


async def test_settle_returns_the_credit_and_is_idempotent(twin):
    await twin.stream.admit(entries("a"), limit=1)
    [delivery] = await take(twin.stream)
    await twin.stream.advance(delivery, TRAIN, b"")
    settled = await take(twin.stream, "learner", stage=TRAIN)
    await twin.stream.settle(settled)
    await twin.stream.settle(settled)
    assert await twin.stream.in_flight() == {}
    assert await twin.stream.depth(TRAIN) == 0
    assert await twin.stream.admit(entries("b"), limit=1) == ["b"]


async def test_settle_refuses_what_the_learner_has_not_received(twin):
    await twin.stream.admit(entries("a"), limit=1)
    with pytest.raises(ValueError, match="only deliveries of the train stage"):
        await twin.stream.settle(await take(twin.stream))


async def test_claims_kept_alive_by_beat_are_not_reclaimed(twin):
    await twin.stream.admit(entries("a"), limit=1)
    held = await take(twin.stream, "ann")
    for _ in range(3):
        await twin.elapse(0.12)
        assert await twin.stream.beat(held, "ann") == []
        assert await take(twin.stream, "bob") == []
    await twin.elapse(LONG_S)
    [reclaimed] = await take(twin.stream, "bob")
    assert reclaimed.deliveries == 2, "a beat is not a delivery"


async def test_beat_never_steals_back(twin):
    await twin.stream.admit(entries("a"), limit=1)
    held = await take(twin.stream, "ann")
    await twin.elapse(LONG_S)
    bobs = await take(twin.stream, "bob")
    assert await twin.stream.beat(held, "ann") == held
    assert await twin.stream.beat(bobs, "bob") == []


async def test_beat_does_not_revive_what_was_released(twin):
    await twin.stream.admit(entries("a"), limit=1)
    held = await take(twin.stream, "ann")
    await twin.stream.release(held, "ann")
    assert await twin.stream.beat(held, "ann") == held
    assert ids(await take(twin.stream, "bob")) == ["a"]


async def test_wiped_stream_recovers_when_groups_are_admitted_again(twin):
    await twin.stream.admit(entries("a"), limit=1)
    held = await take(twin.stream)
    await twin.wipe()
    assert await twin.stream.in_flight() == {}
    assert await twin.stream.beat(held, "ann") == held
    await twin.stream.release(held, "ann")
    assert not await twin.stream.advance(held[0], VERIFY, b"")
    await twin.stream.admit(entries("a"), limit=1)
    [delivery] = await take(twin.stream)
    assert await twin.stream.advance(delivery, VERIFY, b"")


async def test_work_held_over_a_wipe_counts_once_its_group_is_back(twin):
    await twin.stream.admit(entries("a"), limit=1)
    [held] = await take(twin.stream)
    await twin.wipe()
    await twin.stream.admit(entries("a"), limit=1)
    assert await twin.stream.advance(held, VERIFY, b"kept")
    assert await take(twin.stream) == [], "the new entry has nothing left to do"
    assert await twin.stream.depth(ROLLOUT) == 0


async def test_group_settled_after_a_wipe_is_not_made_again(twin):
    await twin.stream.admit(entries("a"), limit=1)
    [delivery] = await take(twin.stream)
    await twin.stream.advance(delivery, TRAIN, b"")
    logged = await take(twin.stream, "learner", stage=TRAIN)
    await twin.wipe()
    await twin.stream.admit(entries("a", "b"), limit=2)
    await twin.stream.settle(logged)
    assert ids(await take(twin.stream)) == ["b"]


async def test_waiting_claim_survives_a_wipe(twin):
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(twin.stream.claim(ROLLOUT, "ann", count=1, wait_s=5))
        await asyncio.sleep(0.02)
        await twin.wipe()
        await twin.stream.admit(entries("a"), limit=1)
    assert ids(waiting.result()) == ["a"]


@pytest.mark.parametrize(
    "payload", [b"", b"\x00\xff\r\n$-1\r\n", bytes(range(256)) * 4096], ids=["empty", "crlf", "1MB"]
)
async def test_payloads_of_any_content_survive(twin, payload):
    await twin.stream.admit([Entry(group_id="ä {}:*", payload=payload)], limit=1)
    [delivery] = await take(twin.stream)
    assert delivery.payload == payload
    await twin.stream.advance(delivery, VERIFY, payload)
    [verified] = await take(twin.stream, stage=VERIFY)
    assert (verified.group_id, verified.payload) == ("ä {}:*", payload)


async def test_age_is_that_of_the_oldest_entry(twin):
    assert await twin.stream.oldest_age_s(ROLLOUT) == 0
    await twin.stream.admit(entries("a"), limit=1)
    await twin.elapse(0.05)
    assert 0.04 < await twin.stream.oldest_age_s(ROLLOUT) < 5


async def test_clear_forgets_everything(twin):
    await twin.stream.admit(entries("a", "b"), limit=2)
    [first, _] = await take(twin.stream)
    await twin.stream.bury(first, "broken", b"")
    await twin.stream.clear()
    assert await twin.stream.in_flight() == {}
    assert await twin.stream.dead_letters(9) == []
    assert [await twin.stream.depth(stage) for stage in Stage] == [0, 0, 0, 0]


async def test_all_stages_are_measured_at_once(twin):
    await twin.stream.admit(entries("a", "b", "c"), limit=9)
    [first, _] = await take(twin.stream, count=2)
    await twin.stream.advance(first, TRAIN, b"x" * 1000)
    measured = await twin.stream.measure()
    assert measured.entries == {ROLLOUT: 2, VERIFY: 0, TEACH: 0, TRAIN: 1}
    assert all(0 <= age < 5 for age in measured.oldest_age_s.values())
    await twin.elapse(0.05)
    later = await twin.stream.measure()
    assert later.oldest_age_s[ROLLOUT] >= measured.oldest_age_s[ROLLOUT] + 0.04
    assert later.oldest_age_s[TEACH] == 0


async def test_a_claim_says_how_long_the_group_has_waited_at_its_stage(twin):
    await twin.stream.admit(entries("a"), limit=9)
    await twin.elapse(0.1)
    [delivery] = await take(twin.stream)
    assert 0.09 <= delivery.waited_s < 5
    await twin.stream.advance(delivery, VERIFY, b"")
    [moved] = await take(twin.stream, stage=VERIFY)
    assert moved.waited_s < delivery.waited_s, "each stage for itself"
