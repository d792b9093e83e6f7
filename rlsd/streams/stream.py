"""The contract between stages, met by `RedisStream` and by its in-memory twin `MemoryStream`.

A stream is transport, not ledger: it may forget everything at any time, and then the learner
admits again what its batch log does not hold. While it remembers, one map `in_flight:
group_id -> stage` is the credit account (its size), the done-mark (a group is past a stage when
the map says so) and the guard against zombies (a transition from any other stage has no effect).

Two rules follow. Group ids are never used for another prompt, so that a repeated call means the
same thing as the first. Stages only go forward, so that a transition can never match twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rlsd.streams.stage import Stage

ASKS_S = 1.5
"""A consumer that has asked for work in this time has a share of what is new."""
GIVES_WAY_S = 0.1
"""How long a share is kept for those who do not come for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One group offered for admission."""

    group_id: str
    payload: bytes
    """The encoded group; opaque to the transport."""
    trace: str = ""
    """Handed on from stage to stage (`rlsd.telemetry.tracing.Mark`); empty while not traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One group in the hands of one consumer, who must finish it, give it back or keep beating."""

    stage: Stage
    entry_id: str
    group_id: str
    payload: bytes
    trace: str
    deliveries: int
    """How often this entry was handed out, this time included."""
    waited_s: float = 0.0
    """Seconds from entering the stage to being handed out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Why one group was given up."""

    group_id: str
    stage: Stage
    """The stage at which it failed."""
    reason: str
    deliveries: int
    trace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How full the queues are at one moment."""

    entries: Mapping[Stage, int]
    """Waiting or being worked on."""
    oldest_age_s: Mapping[Stage, float]
    """Seconds that the oldest entry has been at the stage; 0 when there is none."""
    memory_used_bytes: int
    memory_limit_bytes: int
    """0: none is set."""


class GroupStream(Protocol):
    """Moves groups from stage to stage; every method may be repeated without a second effect.

    Raises:
        StreamError: from any method, when the transport cannot be reached or refuses.
    """

    @property
    def abandoned_after_s(self) -> float:
        """Seconds without a beat after which a claim passes to another consumer."""
        ...

    async def admit(self, entries: Sequence[Entry], *, limit: int) -> list[str]:
        """Put new groups at the first stage, in order, while fewer than `limit` are in flight.

        Returns:
            The offered ids that are in flight now, known ones included: a retry answers the same.
        """
        ...

    async def claim(
        self, stage: Stage, consumer: str, *, count: int, wait_s: float
    ) -> list[Delivery]:
        """Take up to `count` deliveries: abandoned ones first, then new ones.

        Waits up to `wait_s` for the first. Entries whose group has left the stage are dropped.
        A claim that may wait leaves the others who ask for work their share of what is new, for
        `GIVES_WAY_S`: who has room for a whole batch would else have it to himself.
        """
        ...

    async def beat(self, deliveries: Sequence[Delivery], consumer: str) -> list[Delivery]:
        """Keep claims alive; one that is no longer the consumer's is left alone.

        Returns:
            The deliveries that were lost: finished elsewhere, claimed by another, or wiped.
        """
        ...

    async def advance(self, delivery: Delivery, to_stage: Stage, payload: bytes) -> bool:
        """Move a group on and remove the delivery.

        Returns:
            Whether it took effect; False for a zombie, a repetition or a wiped group.

        Raises:
            ValueError: `to_stage` is not after the delivery's stage.
        """
        ...

    async def bury(self, delivery: Delivery, reason: str, payload: bytes) -> bool:
        """Give a group up: its payload goes to the train stage, a note to the dead letters.

        The learner must hear of the failure, since only `settle` returns a credit.
        Returns and raises as `advance`.
        """
        ...

    async def release(self, deliveries: Sequence[Delivery], consumer: str) -> None:
        """Give claims back at once, as if never delivered: for a consumer that cannot go on."""
        ...

    async def retry(self, delivery: Delivery, consumer: str, *, delay_s: float) -> None:
        """Give a failed claim back for another attempt, which this delivery counts towards.

        Args:
            delay_s: seconds until it can be claimed, at most `abandoned_after_s`.
        """
        ...

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Forget groups whose outcome is in the batch log; their credits return.

        Raises:
            ValueError: a delivery is not from the train stage.
        """
        ...

    async def in_flight(self) -> dict[str, Stage]:
        """Every admitted and unsettled group with its stage."""
        ...

    async def depth(self, stage: Stage) -> int:
        """Entries at a stage, waiting or being worked on."""
        ...

    async def oldest_age_s(self, stage: Stage) -> float:
        """Seconds that the oldest entry has been at the stage; 0 when there is none."""
        ...

    async def measure(self) -> Measured:
        """How full all stages are; no payload is read."""
        ...

    async def dead_letters(self, count: int) -> list[DeadLetter]:
        """The latest dead letters, newest first."""
        ...

    async def ping(self) -> None:
        """Return when the transport answers."""
        ...

    async def clear(self) -> None:
        """Forget everything about this run."""
        ...

    async def aclose(self) -> None:
        """Close connections; what is in flight stays."""
        ...


def check_forward(delivery: Delivery, to_stage: Stage) -> None:
    """Refuse a transition that could match twice.

    Raises:
        ValueError: `to_stage` is not after the delivery's stage.
    """
    if not delivery.stage.precedes(to_stage):
        raise ValueError(
            f"group {delivery.group_id} cannot move from {delivery.stage} to {to_stage}: "
            "stages only go forward, and the train stage ends with settle"
        )


def check_settled(deliveries: Sequence[Delivery]) -> None:
    """Refuse to settle what the learner has not received.

    Raises:
        ValueError: a delivery is not from the train stage.
    """
    for delivery in deliveries:
        if delivery.stage is not Stage.TRAIN:
            raise ValueError(
                f"group {delivery.group_id} is at {delivery.stage}: "
                "only deliveries of the train stage are settled"
            )
