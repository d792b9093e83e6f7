"""The two twins under one interface, and a Redis server for the whole session."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from rlsd.streams.embedded import embedded_redis
from rlsd.streams.memory import MemoryStream
from rlsd.streams.redis import RedisStream
from rlsd.streams.stream import GroupStream

ABANDONED_AFTER_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    stream: GroupStream
    elapse: Callable[[float], Awaitable[None]]
    wipe: Callable[[], Awaitable[object]]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with asyncio.Runner() as runner:
        server = embedded_redis()
        yield runner.run(server.__aenter__())
        runner.run(server.__aexit__(None, None, None))


@pytest.fixture(params=["memory", "redis"])
async def twin(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Twin]:
    async with _twin(request.param, redis_url, ABANDONED_AFTER_S) as made:
        yield made


@pytest.fixture(params=["memory", "redis"])
async def patient_twin(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Twin]:
    """Abandons nothing, however long this process is kept waiting."""
    async with _twin(request.param, redis_url, 60.0) as made:
        yield made


@contextlib.asynccontextmanager
async def _twin(kind: str, redis_url: str, abandoned_after_s: float) -> AsyncIterator[Twin]:
    if kind == "memory":
        yield _memory_twin(abandoned_after_s)
        return
    stream = RedisStream.from_url(redis_url, uuid.uuid4().hex, abandoned_after_s=abandoned_after_s)
    async with Redis.from_url(redis_url) as client:
        yield Twin(stream=stream, elapse=asyncio.sleep, wipe=client.flushall)
    await stream.clear()
    await stream.aclose()


def _memory_twin(abandoned_after_s: float) -> Twin:
    now_s = 0.0

    async def elapse(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    stream = MemoryStream(abandoned_after_s=abandoned_after_s, clock=lambda: now_s)
    return Twin(stream=stream, elapse=elapse, wipe=stream.clear)
