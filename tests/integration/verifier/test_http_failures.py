"""What becomes of checks while an outside verifier fails, and in an outage."""

import asyncio
import time

from hostile_http import (
    hanging_up,
    hostile_server,
    in_turn,
    saying,
    scoring,
)
from judging_over_http import LOOPBACK, REQUEST, fails, judge, metric

from rlsd.config import HttpVerifierSection
from rlsd.errors import VerifierError
from rlsd.verifier_client.client import Pace, http_verifier

# when it fails


async def test_an_overloaded_server_is_asked_again_with_the_same_key():
    before = metric("rlsd_verifier_http_retries_total")
    answers = [saying(b"", status=s) for s in (503, 429, 408)]
    async with hostile_server(in_turn(*answers, scoring(1))) as server:
        assert (await judge(server.url)).reward == 1
    assert len({r.headers["idempotency-key"] for r in server.received}) == 1
    assert len(server.received) == 4
    assert metric("rlsd_verifier_http_retries_total") == before + 3


async def test_four_tries_are_all():
    async with hostile_server(saying(b"", status=500)) as server:
        await fails(server, "status 500")
    assert len(server.received) == 4


async def test_a_server_that_hangs_up_is_asked_again():
    async with hostile_server(in_turn(hanging_up, hanging_up, scoring(1))) as server:
        assert (await judge(server.url)).reward == 1


async def test_another_completion_has_another_key_and_another_deadline_has_not():
    async with hostile_server(scoring(1)) as server:
        for request in (
            REQUEST,
            REQUEST.model_copy(update={"deadline_ms": 5}),
            REQUEST.model_copy(update={"completion": "8"}),
            REQUEST.model_copy(update={"trajectory_id": "r/g/1"}),
        ):
            await judge(server.url, request)
    first, same, other_text, other_trajectory = (
        r.headers["idempotency-key"] for r in server.received
    )
    assert first == same
    assert len({first, other_text, other_trajectory}) == 3


async def test_retry_after_is_honoured_within_the_budget():
    busy = saying(b"", status=503, headers=("Retry-After: 1",))
    async with hostile_server(in_turn(busy, scoring(1))) as server:
        started = time.monotonic()
        await judge(server.url)
        assert time.monotonic() - started >= 1.0


async def test_retry_after_beyond_the_budget_is_not_waited_for():
    busy = saying(b"", status=503, headers=("Retry-After: 3600",))
    async with hostile_server(busy) as server:
        started = time.monotonic()
        await fails(server, "status 503")
        assert time.monotonic() - started < 1.0
    assert len(server.received) == 1


async def test_a_server_that_closes_after_each_answer_is_not_in_error():
    async def once(received, writer):
        await scoring(1)(received, writer)
        writer.close()

    async with hostile_server(once) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK, retries=0)
        verifier = http_verifier("outside", section)
        for _ in range(3):
            await verifier.judge(REQUEST)
            await asyncio.sleep(0.02)
    assert server.num_connections == 3


async def test_an_answer_of_an_earlier_request_is_never_taken_for_this_ones():
    """A server that answers twice would give the next check this one's second answer."""

    async def twice(received, writer):
        await scoring(0)(received, writer)
        await scoring(1)(received, writer)

    async with hostile_server(twice) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK)
        verifier = http_verifier("outside", section)
        rewards = []
        for _ in range(3):
            rewards.append((await verifier.judge(REQUEST)).reward)
            await asyncio.sleep(0.02)
    assert rewards == [0, 0, 0]


# an outage


async def test_in_an_outage_work_waits_and_is_done_afterwards():
    is_down = True

    async def answer(received, writer):
        await (saying(b"", status=503) if is_down else scoring(1))(received, writer)

    async with hostile_server(answer) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK)
        pace = Pace(random=lambda: 0.0, open_s=0.2)
        verifier = http_verifier("outside", section, pace=pace)
        checks = [asyncio.create_task(verifier.judge(REQUEST)) for _ in range(40)]
        await asyncio.sleep(0.3)
        assert metric("rlsd_verifier_http_circuit_state") > 0
        assert not any(check.done() for check in checks)
        seen = len(server.received)
        assert seen < 64 + 3 * 3  # the open circuit keeps the rest away
        is_down = False
        judgements = await asyncio.wait_for(asyncio.gather(*checks), 5)
    assert {j.reward for j in judgements} == {1}
    assert metric("rlsd_verifier_http_circuit_state") == 0


async def test_a_check_whose_last_try_falls_into_an_outage_waits():
    is_down = True

    async def answer(received, writer):
        await (saying(b"", status=503) if is_down else scoring(1))(received, writer)

    async with hostile_server(answer) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK, retries=0)
        verifier = http_verifier("outside", section, pace=Pace(open_s=0.2))
        checks = [asyncio.create_task(verifier.judge(REQUEST)) for _ in range(40)]
        await asyncio.sleep(0.1)
        is_down = False
        results = await asyncio.wait_for(asyncio.gather(*checks, return_exceptions=True), 5)
    assert sum(isinstance(r, VerifierError) for r in results) < 20


async def test_checks_that_always_fail_are_given_up_and_the_others_are_done():
    async def answer(received, writer):
        is_poison = received.json["completion"] == "poison"
        await (saying(b"", status=503) if is_poison else scoring(1))(received, writer)

    async with hostile_server(answer) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK)
        verifier = http_verifier("outside", section, pace=Pace(open_s=0.05))
        poison = REQUEST.model_copy(update={"completion": "poison"})
        checks = [verifier.judge(r) for r in [poison] * 40 + [REQUEST] * 10]
        results = await asyncio.wait_for(asyncio.gather(*checks, return_exceptions=True), 15)
    assert all("status 503" in str(r) for r in results[:40])
    assert [getattr(r, "reward", r) for r in results[40:]] == [1.0] * 10


async def test_who_probes_is_drawn_and_not_whoever_came_first():
    def drawn():
        return 0.9 if asyncio.current_task().get_name() == "first" else 0.0

    async def ask(verifier, name):
        asyncio.current_task().set_name(name)
        return await verifier.judge(REQUEST.model_copy(update={"completion": name}))

    async with hostile_server(saying(b"", status=503)) as server:
        section = HttpVerifierSection(
            url=server.url, allow_cidrs=LOOPBACK, retries=30, total_timeout_s=300
        )
        verifier = http_verifier("outside", section, pace=Pace(random=drawn, open_s=0.3))
        verifier._pace = Pace(random=lambda: 0.0)  # its own tries follow without a pause
        checks = [asyncio.create_task(ask(verifier, "first"))]
        while metric("rlsd_verifier_http_circuit_state") != 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        verifier._pace = Pace(random=drawn)
        checks += [asyncio.create_task(ask(verifier, name)) for name in "abc"]
        failed = len(server.received)
        server.respond = scoring(1)
        await asyncio.wait_for(asyncio.gather(*checks), 5)
    assert [r.json["completion"] for r in server.received[failed:]][-1] == "first"


async def test_an_outage_that_lasts_is_an_error():
    async with hostile_server(saying(b"", status=503)) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK, outage_s=0.3)
        pace = Pace(random=lambda: 0.0, open_s=0.1)
        verifier = http_verifier("outside", section, pace=pace)
        started = time.monotonic()
        results = await asyncio.gather(
            *(verifier.judge(REQUEST) for _ in range(40)), return_exceptions=True
        )
        assert 0.25 < time.monotonic() - started < 2.0
    assert all(isinstance(r, VerifierError) for r in results)
    assert any("not available for 0.3 s" in str(r) for r in results)


async def test_a_server_that_is_not_there_and_comes_back_loses_nothing():
    async with hostile_server(scoring(1)) as gone:
        port = gone.port
    section = HttpVerifierSection(url=f"http://127.0.0.1:{port}/", allow_cidrs=LOOPBACK)
    pace = Pace(random=lambda: 0.0, open_s=0.2)
    verifier = http_verifier("outside", section, pace=pace)
    checks = [asyncio.create_task(verifier.judge(REQUEST)) for _ in range(8)]
    await asyncio.sleep(0.3)
    assert not any(check.done() for check in checks)
    async with hostile_server(scoring(1), port=port):
        judgements = await asyncio.wait_for(asyncio.gather(*checks), 5)
    assert {j.reward for j in judgements} == {1}
