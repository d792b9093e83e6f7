"""`GroupStream` over Redis Streams; the one rule is that nothing here writes except its scripts.

redis-py sends a command again after a lost connection, so a plain XADD would be added twice
unnoticed. Each script has its effect once however often it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from rlsd.errors import ConfigError, StreamError
from rlsd.streams.keys import CONSUMER_GROUP, NOBODY, Keys
from rlsd.streams.stage import Stage
from rlsd.streams.stream import (
    ASKS_S,
    GIVES_WAY_S,
    DeadLetter,
    Delivery,
    Entry,
    Measured,
    check_forward,
    check_settled,
)

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 3.0
_SOCKET_TIMEOUT_S = 5.0
_LONGEST_BLOCK_S = 0.5
"""Below the socket timeout; also how soon an idle consumer sees a claim become abandoned."""
_HEALTH_CHECK_S = 15
_PINGS_EVERY_S = 0.5
_MOST_RINGS = 64
"""More idle consumers than this on one stage may wait one `_LONGEST_BLOCK_S` longer."""


class RedisStream:
    """The groups of one run on one Redis server."""

    def __init__(self, client: Redis, run_id: str, *, abandoned_after_s: float = 30.0) -> None:
        """Use a client that does not decode responses: payloads are bytes."""
        if abandoned_after_s <= 0:
            raise ValueError(f"abandoned_after_s must be positive, got {abandoned_after_s}")
        self._client: Any = client  # its stubs allow str wherever we know bytes
        self._keys = Keys(run_id)
        self._abandoned_after_s = abandoned_after_s
        self._where = _where(client)
        self._admit = self._script("admit")
        self._claim = self._script("claim")
        self._beat = self._script("beat")
        self._advance = self._script("advance")
        self._release = self._script("release")
        self._settle = self._script("settle")
        self._measure = self._script("measure")

    @classmethod
    def from_url(cls, url: str, run_id: str, *, abandoned_after_s: float = 30.0) -> RedisStream:
        """Prepare a connection, opened on first use: `redis://`, `rediss://` or `unix://`.

        Raises:
            ConfigError: the URL cannot be understood.
        """
        try:
            client = Redis.from_url(
                url,
                socket_connect_timeout=_CONNECT_TIMEOUT_S,
                socket_timeout=_SOCKET_TIMEOUT_S,
                socket_keepalive=True,
                health_check_interval=_HEALTH_CHECK_S,
                retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), retries=3),
            )
        except ValueError as error:
            # The URL itself stays out of the message: it may hold a password.
            raise ConfigError(
                f"transport.url is not a Redis URL ({error}); write redis://HOST:PORT/0"
            ) from error
        return cls(client, run_id, abandoned_after_s=abandoned_after_s)

    @property
    def abandoned_after_s(self) -> float:
        """Seconds without a beat after which a claim passes to another consumer."""
        return self._abandoned_after_s

    async def admit(self, entries: Sequence[Entry], *, limit: int) -> list[str]:
        """Put new groups at the first stage while fewer than `limit` are in flight."""
        stage = Stage.ROLLOUT
        offered = [field for e in entries for field in (e.group_id, e.payload, e.trace)]
        async with self._boundary("admit"):
            held = await self._admit(
                keys=[self._keys.in_flight, self._keys.entries(stage), self._keys.bell(stage)],
                args=[limit, stage, _MOST_RINGS, *offered],
            )
        return [group_id.decode() for group_id in held]

    async def claim(
        self, stage: Stage, consumer: str, *, count: int, wait_s: float
    ) -> list[Delivery]:
        """Take up to `count` deliveries, waiting up to `wait_s` for the first.

        Waiting consumes nothing but a ring of the bell, so a claim cancelled while it waits
        strands no delivery.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + wait_s
        shares = wait_s > 0
        async with self._boundary(f"claim from {stage}"):
            while True:
                claimed, num_left = await self._claim_now(stage, consumer, count, shares=shares)
                left_s = deadline - now()
                if claimed or left_s <= 0:
                    return claimed
                if shares and num_left:
                    await asyncio.sleep(min(left_s, GIVES_WAY_S))
                    shares = False
                    continue
                shares = True
                block_s = max(0.01, min(left_s, _LONGEST_BLOCK_S))  # 0 would block for ever
                await self._client.blpop([self._keys.bell(stage)], timeout=block_s)

    async def _claim_now(
        self, stage: Stage, consumer: str, count: int, *, shares: bool
    ) -> tuple[list[Delivery], int]:
        """What can be had now, and how many new entries are left to others."""
        abandoned_after_ms = _milliseconds(self._abandoned_after_s)
        asks_ms = _milliseconds(ASKS_S) if shares else 0
        num_left, now_ms, rows = await self._claim(
            keys=[self._keys.in_flight, self._keys.entries(stage), self._keys.asking(stage)],
            args=[stage, CONSUMER_GROUP, consumer, abandoned_after_ms, count, asks_ms],
        )
        claimed = [
            Delivery(
                stage=stage,
                entry_id=entry_id.decode(),
                group_id=group_id.decode(),
                payload=payload,
                trace=trace.decode(),
                deliveries=deliveries,
                waited_s=max(0.0, now_ms / 1e3 - _added_s(entry_id)),
            )
            for entry_id, group_id, payload, trace, deliveries in rows
        ]
        return claimed, int(num_left)

    async def beat(self, deliveries: Sequence[Delivery], consumer: str) -> list[Delivery]:
        """Keep claims alive; return those that are not the consumer's any more."""
        lost: list[Delivery] = []
        async with self._boundary("beat"):
            for stage, held in _by_stage(deliveries).items():
                gone = await self._beat(
                    keys=[self._keys.entries(stage)],
                    args=[CONSUMER_GROUP, consumer, *(d.entry_id for d in held)],
                )
                lost += [d for d in held if d.entry_id.encode() in gone]
        return lost

    async def advance(self, delivery: Delivery, to_stage: Stage, payload: bytes) -> bool:
        """Move a group on, once, and remove the delivery."""
        check_forward(delivery, to_stage)
        async with self._boundary(f"advance to {to_stage}"):
            return bool(
                await self._advance(
                    keys=self._transition_keys(delivery, to_stage),
                    args=_transition_args(delivery, to_stage, payload),
                )
            )

    async def bury(self, delivery: Delivery, reason: str, payload: bytes) -> bool:
        """Give a group up, once: payload to the train stage, a note to the dead letters."""
        check_forward(delivery, Stage.TRAIN)
        async with self._boundary("bury"):
            return bool(
                await self._advance(
                    keys=[*self._transition_keys(delivery, Stage.TRAIN), self._keys.dead_letters],
                    args=[
                        *_transition_args(delivery, Stage.TRAIN, payload),
                        delivery.deliveries,
                        reason.encode("utf-8", "replace"),
                    ],
                )
            )

    def _transition_keys(self, delivery: Delivery, to_stage: Stage) -> list[str]:
        return [
            self._keys.in_flight,
            self._keys.entries(delivery.stage),
            self._keys.entries(to_stage),
            self._keys.bell(to_stage),
        ]

    async def release(self, deliveries: Sequence[Delivery], consumer: str) -> None:
        """Give claims back at once, as if never delivered."""
        await self._give_back(deliveries, consumer, delay_s=0.0, uncounted=1)

    async def retry(self, delivery: Delivery, consumer: str, *, delay_s: float) -> None:
        """Give a failed claim back for another attempt after `delay_s`."""
        await self._give_back([delivery], consumer, delay_s=delay_s, uncounted=0)

    async def _give_back(
        self, deliveries: Sequence[Delivery], consumer: str, *, delay_s: float, uncounted: int
    ) -> None:
        idle_ms = _milliseconds(max(0.0, self._abandoned_after_s - delay_s))
        async with self._boundary("release"):
            for stage, held in _by_stage(deliveries).items():
                await self._release(
                    keys=[self._keys.entries(stage), self._keys.bell(stage)],
                    args=[
                        *(CONSUMER_GROUP, consumer, NOBODY, idle_ms, uncounted, _MOST_RINGS),
                        *(d.entry_id for d in held),
                    ],
                )

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Forget groups whose outcome is in the batch log; their credits return."""
        check_settled(deliveries)
        async with self._boundary("settle"):
            await self._settle(
                keys=[self._keys.in_flight, self._keys.entries(Stage.TRAIN)],
                args=[CONSUMER_GROUP, *(part for d in deliveries for part in _ids(d))],
            )

    async def in_flight(self) -> dict[str, Stage]:
        """Every admitted and unsettled group with its stage."""
        async with self._boundary("read in_flight"):
            stages = await self._client.hgetall(self._keys.in_flight)
        return {group_id.decode(): Stage(stage.decode()) for group_id, stage in stages.items()}

    async def depth(self, stage: Stage) -> int:
        """Entries at a stage: XLEN is the backlog, since entries are deleted when acknowledged."""
        async with self._boundary("read depth"):
            return int(await self._client.xlen(self._keys.entries(stage)))

    async def oldest_age_s(self, stage: Stage) -> float:
        """Seconds, by the server's clock, that the oldest entry has been at the stage."""
        async with self._boundary("read age"):
            oldest = await self._client.xrange(self._keys.entries(stage), count=1)
            if not oldest:
                return 0.0
            seconds, microseconds = await self._client.time()
        now_s = float(seconds + microseconds / 1e6)
        return max(0.0, now_s - _added_s(oldest[0][0]))

    async def measure(self) -> Measured:
        """How full all stages are; no payload leaves the server."""
        async with self._boundary("measure"):
            now_ms, *rows = await self._measure(keys=[self._keys.entries(s) for s in Stage])
            memory = await self._client.info("memory")
        staged = dict(zip(Stage, zip(rows[::2], rows[1::2], strict=True), strict=True))
        return Measured(
            entries={stage: int(number) for stage, (number, _) in staged.items()},
            oldest_age_s={
                stage: max(0.0, now_ms / 1e3 - _added_s(first)) if first else 0.0
                for stage, (_, first) in staged.items()
            },
            memory_used_bytes=int(memory["used_memory"]),
            memory_limit_bytes=int(memory["maxmemory"]),
        )

    async def dead_letters(self, count: int) -> list[DeadLetter]:
        """The latest dead letters, newest first."""
        async with self._boundary("read dead letters"):
            entries = await self._client.xrevrange(self._keys.dead_letters, count=count)
        return [
            DeadLetter(
                group_id=fields[b"group"].decode(),
                stage=Stage(fields[b"stage"].decode()),
                reason=fields[b"reason"].decode(),
                deliveries=int(fields[b"deliveries"]),
                trace=fields[b"trace"].decode(),
            )
            for _, fields in entries
        ]

    async def ping(self, *, within_s: float = 0.0) -> None:
        """Return when Redis answers; one that cannot be reached is asked again for `within_s`."""
        now = asyncio.get_running_loop().time
        deadline, has_said = now() + within_s, False
        async with self._boundary("ping"):
            while True:
                try:
                    await self._client.ping()
                except (RedisConnectionError, RedisTimeoutError) as error:
                    if isinstance(error, AuthenticationError) or now() >= deadline:
                        raise
                    if not has_said:
                        log.warning("redis unreachable", extra={"reason": str(error)})
                    has_said = True
                    await asyncio.sleep(_PINGS_EVERY_S)
                else:
                    return

    async def clear(self) -> None:
        """Delete this run's keys."""
        async with self._boundary("clear"):
            await self._client.unlink(*self._keys.all())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _script(self, name: str) -> Any:
        """A script called by its digest, loaded again when the server has forgotten it."""
        source = resources.files(__package__).joinpath(f"{name}.lua").read_text("utf-8")
        return self._client.register_script(source)

    @contextlib.asynccontextmanager
    async def _boundary(self, what: str) -> AsyncIterator[None]:
        """Turn what the client raises into one line: what failed, where, and the remedy."""
        try:
            yield
        except RedisError as error:
            cause = (str(error) or type(error).__name__).splitlines()[0]
            raise StreamError(
                f"{what} failed on Redis at {self._where}: {cause}; {_remedy(error)}"
            ) from error


def _remedy(error: RedisError) -> str:
    match error:
        case AuthenticationError() | NoPermissionError():
            return "check the user, password and ACL behind transport.url"
        case ResponseError() if "OOM" in str(error) or isinstance(error, OutOfMemoryError):
            return "raise maxmemory (with maxmemory-policy noeviction)"
        case ResponseError():
            return "check that the server is Redis 6.2 or newer, or Valkey"
        case _:
            return "check that Redis is running and transport.url names it"


def _where(client: Redis) -> str:
    """The server's address without credentials."""
    kwargs = client.connection_pool.connection_kwargs
    if "path" in kwargs:
        return str(kwargs["path"])
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"


def _added_s(entry_id: bytes) -> float:
    """When an entry came, by the server's clock, in seconds of its epoch."""
    return int(entry_id.split(b"-")[0]) / 1e3


def _by_stage(deliveries: Sequence[Delivery]) -> dict[Stage, list[Delivery]]:
    staged: dict[Stage, list[Delivery]] = {}
    for delivery in deliveries:
        staged.setdefault(delivery.stage, []).append(delivery)
    return staged


def _transition_args(
    delivery: Delivery, to_stage: Stage, payload: bytes
) -> list[str | bytes | int]:
    return [
        *(CONSUMER_GROUP, *_ids(delivery), delivery.stage, to_stage),
        *(payload, delivery.trace, _MOST_RINGS),
    ]


def _ids(delivery: Delivery) -> tuple[str, str]:
    """The entry id and the group id, in the scripts' order."""
    return delivery.entry_id, delivery.group_id


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
