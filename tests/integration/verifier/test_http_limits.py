"""How long an outside verifier may take, how much it may say, and how often it is asked."""

import asyncio
import socket
import time

import pytest
from hostile_http import (
    hostile_server,
    in_turn,
    response,
    saying,
    scoring,
    silent,
)
from judging_over_http import LOOPBACK, REQUEST, fails, judge

from rlsd.config import HttpVerifierSection
from rlsd.verifier_client.client import Pace, TooLarge, http_verifier
from rlsd.verifier_client.connections import RESPONSE_LIMIT_BYTES
from rlsd.verifier_contract.native import VerifyRequest

# how long and how much


async def test_a_server_that_says_nothing_is_given_up():
    async with hostile_server(silent) as server:
        with pytest.raises(TimeoutError, match="no answer within"):
            await judge(server.url, try_timeout_s=0.1, total_timeout_s=0.35)
    assert 3 <= len(server.received) <= 4


async def test_the_last_try_ends_with_the_budget_of_all():
    async with hostile_server(silent) as server:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await judge(server.url, try_timeout_s=0.8, total_timeout_s=1.0)
        assert time.monotonic() - started < 1.5
    assert len(server.received) == 2


async def test_a_server_that_never_ends_its_handshake_is_given_up_soon(ca_file):
    settings = {"connect_timeout_s": 0.1, "ca_file": ca_file, "retries": 0}
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started = time.monotonic()
        with pytest.raises(TimeoutError, match=r"no connection within 0\.1 s"):
            await judge(f"https://127.0.0.1:{mute.getsockname()[1]}/", **settings)
        assert time.monotonic() - started < 2


async def test_no_more_than_64_connect_at_once(monkeypatch):
    now = most = 0

    async def getaddrinfo(host, port, **_):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async with hostile_server(scoring(1)) as server:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        section = HttpVerifierSection(
            url=f"http://checks.test:{server.port}/", allow_cidrs=LOOPBACK, max_concurrency=200
        )
        verifier = http_verifier("outside", section)
        await asyncio.gather(*(verifier.judge(REQUEST) for _ in range(100)))
    assert most == 64


async def test_a_body_that_drips_does_not_hold_a_check():
    async def drip(_, writer):
        writer.write(response(b"", length=10_000))
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    started = time.monotonic()
    async with hostile_server(drip) as server:
        with pytest.raises(TimeoutError):
            await judge(server.url, try_timeout_s=0.2, total_timeout_s=0.5)
    assert time.monotonic() - started < 1.0


async def test_headers_without_end_do_not_hold_a_check():
    async def endless(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
            await writer.drain()

    async with hostile_server(endless) as server:
        await fails(server, "not reached", retries=0)


async def test_interim_responses_without_end_do_not_hold_a_check():
    async def endless(_, writer):
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.001)

    async with hostile_server(endless) as server:
        with pytest.raises(TimeoutError):
            await judge(server.url, try_timeout_s=0.3, total_timeout_s=0.4, retries=0)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_answer_is_cut(chunked):
    sent = 0

    async def flood(_, writer):
        nonlocal sent
        piece = b" " * 65_536
        if chunked:
            writer.write(response(b"", headers=("Transfer-Encoding: chunked",)))
            piece = b"10000\r\n" + piece + b"\r\n"
        else:
            writer.write(response(b"", length=10_000_000_000))
        for _ in range(1000):
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with hostile_server(flood) as server:
        await fails(server, f"more than {RESPONSE_LIMIT_BYTES} bytes")
        assert len(server.received) == 1
    assert sent < 20_000_000


async def test_the_largest_answer_is_read():
    text = b'{"outcome":"scored","score":1}'
    body = text + b" " * (RESPONSE_LIMIT_BYTES - len(text))
    async with hostile_server(saying(body)) as server:
        assert (await judge(server.url)).reward == 1


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
async def test_a_compressed_answer_is_refused_unread(encoding):
    import gzip

    bomb = gzip.compress(b" " * 10_000_000)
    answer = saying(bomb, headers=(f"Content-Encoding: {encoding}",))
    async with hostile_server(answer) as server:
        await fails(server, "content-encoding")
    assert server.received[0].headers["accept-encoding"] == "identity"


async def test_a_large_request_is_not_sent():
    async with hostile_server(scoring(1)) as server:
        with pytest.raises(TooLarge):
            await judge(server.url, VerifyRequest(completion="x" * 1_100_000))
    assert server.num_connections == 0


async def test_no_more_checks_are_asked_at_once_than_configured():
    now = most = 0

    async def count(received, writer):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        await scoring(1)(received, writer)

    async with hostile_server(count) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK, max_concurrency=3)
        verifier = http_verifier("outside", section)
        await asyncio.gather(*(verifier.judge(REQUEST) for _ in range(20)))
        assert (len(server.received), most) == (20, 3)


async def test_tries_begin_no_faster_than_configured_and_nobody_fails_by_waiting():
    arrivals = []

    async def answer(received, writer):
        arrivals.append(time.monotonic())
        await scoring(1)(received, writer)

    async with hostile_server(answer) as server:
        section = HttpVerifierSection(
            url=server.url, allow_cidrs=LOOPBACK, max_per_second=40, total_timeout_s=0.3
        )
        started = time.monotonic()
        verifier = http_verifier("outside", section)
        judgements = await asyncio.gather(*(verifier.judge(REQUEST) for _ in range(17)))
    assert {j.reward for j in judgements} == {1}
    for number, arrived in enumerate(arrivals):
        assert arrived - started > number / 40 - 0.005


async def test_another_try_takes_a_turn_too_or_is_given_up_when_that_is_too_late():
    async with hostile_server(in_turn(saying(b"", status=503), scoring(1))) as server:
        started = time.monotonic()
        await judge(server.url, max_per_second=5)
        assert time.monotonic() - started > 0.19
    async with hostile_server(saying(b"", status=503)) as server:
        started = time.monotonic()
        await fails(server, "status 503", max_per_second=1, total_timeout_s=0.5)
        assert time.monotonic() - started < 0.4
        assert len(server.received) == 1


# what `rlsd why` says


@pytest.mark.parametrize(
    ("settings", "num_checks", "words"),
    [
        ({}, 1, "it is slow to answer; 1 in hand"),
        ({"max_concurrency": 1}, 3, "it is slow to answer; 3 in hand"),
        ({"max_per_second": 0.01, "max_concurrency": 2}, 1, "only so often (max_per_second)"),
    ],
)
async def test_what_checks_wait_for_is_told_when_it_takes_long(settings, num_checks, words):
    later_s = 0.0
    pace = Pace(monotonic=lambda: time.monotonic() + later_s)
    async with hostile_server(in_turn(scoring(1), silent)) as server:
        section = HttpVerifierSection(url=server.url, allow_cidrs=LOOPBACK, **settings)
        verifier = http_verifier("outside", section, pace=pace)
        await verifier.judge(REQUEST)
        checks = [asyncio.create_task(verifier.judge(REQUEST)) for _ in range(num_checks)]
        await asyncio.sleep(0.05)
        assert verifier.obstacle() is None
        later_s = 12.0
        obstacle = verifier.obstacle()
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)
    assert obstacle.detail.startswith("the verifier 'outside': ")
    assert words in obstacle.detail
    assert 12 <= obstacle.for_s < 20
    assert verifier.obstacle() is None
