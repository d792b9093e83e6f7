"""The chain task's check over HTTP, in this process, whose mood is changed while a run asks it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from enum import StrEnum

from tests.chaos.faulty_verifier import Fault, answer_to, fault_of, reward_of


class Mood(StrEnum):
    """What it does with a request."""

    RIGHT = "right"
    LYING = "lying"
    """1 for everything, canaries included."""
    AT_TIMES = "at times"
    """One in five fails, in one of the ways of `Fault`."""
    HANGING = "hanging"


class MoodyVerifier:
    """Answers `POST /`."""

    def __init__(self) -> None:
        self.mood = Mood.RIGHT

    @contextlib.asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[MoodyVerifier]:
        """On this port until the context ends; those that hang are let go then."""
        server = await asyncio.start_server(self._converse, "127.0.0.1", port)
        try:
            yield self
        finally:
            server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = dict(
                line.lower().split(": ", 1) for line in head.splitlines()[1:] if ": " in line
            )
            request = json.loads(await reader.readexactly(int(headers["content-length"])))
            fault = fault_of(request["trajectory_id"], 20) if self.mood is Mood.AT_TIMES else None
            if fault is Fault.HANG or self.mood is Mood.HANGING:
                await reader.read()  # until the caller has had enough
            else:
                score = reward_of(request["completion"], request["reference"])
                writer.write(answer_to(1.0 if self.mood is Mood.LYING else score, fault))
                await writer.drain()
        writer.close()
