"""A verifier service of one's own, which may die: it is started again and the check repeated.

| waits for | bound | unblocked by |
|---|---|---|
| a verdict | `CHECK_TIMEOUT_S`, twice | the service, its death, or the deadline, which ends it |
| a repeated check | one at a time | the end of another repeated check |
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from rlsd.errors import ServiceError
from rlsd.local.processes import Child, child_environment, free_ports, service_command
from rlsd.serving.channel import open_channel, wait_until_serving
from rlsd.trajectory import Verdict
from rlsd.wire.convert import verdict_from_proto
from rlsd.wire.v1 import verifier_service_pb2 as pb
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc

CHECK_TIMEOUT_S = 600.0
"""For one call: the service has deadlines of its own, and a check may wait for others there."""
_START_TIMEOUT_S = 120.0
_MOST_STARTS = 11
_STOP_TIMEOUT_S = 10.0
_MOST_WORKERS = 4

_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class ServiceGone(ServiceError):
    """The service cannot be kept alive: no further check will be answered."""


@dataclass(slots=True)
class _Life:
    """The service between a start and its end."""

    channel: grpc.aio.Channel
    stub: rpc.VerifierServiceAsyncStub


class LocalVerifier:
    """Checks completions with a service process that it keeps alive."""

    def __init__(self, child: Child, address: str, *, timeout_s: float = CHECK_TIMEOUT_S) -> None:
        """Prepare; `start` makes it ready. A call without an answer after `timeout_s` ends it."""
        self._timeout_s = timeout_s
        self._child = child
        self._address = address
        self._life: _Life | None = None
        self._gone: ServiceGone | None = None
        self._num_starts = 0
        self._starting = asyncio.Lock()
        self._repeating = asyncio.Lock()

    async def start(self) -> None:
        """Return once the service serves; raises ServiceGone with its last words."""
        self._num_starts += 1
        await self._child.start()
        process = self._child.process
        assert process is not None
        serving = asyncio.ensure_future(
            wait_until_serving(self._address, timeout_s=_START_TIMEOUT_S)
        )
        ended = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait((serving, ended), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise ServiceGone(f"the verifier service ended: {self._child.last_words()}")
            try:
                await serving
            except ServiceError as cause:
                raise ServiceGone(str(cause)) from cause
        finally:
            for task in (serving, ended):
                task.cancel()
            await asyncio.wait((serving, ended))
        channel = open_channel(self._address)
        self._life = _Life(channel, rpc.VerifierServiceStub(channel))

    async def check(self, request: pb.CheckRequest) -> Verdict:
        """The verdict about one completion, asked for again when the service died meanwhile.

        Raises:
            ServiceError: it died twice in the middle of this check, or refused the call.
            ServiceGone: it dies too often, or does not start again.
        """
        life = self._life
        verdict = await self._ask(life, request)
        if verdict is None:
            async with self._repeating:  # alone, so that the guilty check takes no other along
                await self._revive(life)
                life = self._life
                verdict = await self._ask(life, request)
                if verdict is None:
                    await self._revive(life)
                    raise ServiceError("the verifier service died twice in the middle of it")
        return verdict

    async def aclose(self) -> None:
        """End the service."""
        await self._end()

    async def _ask(self, life: _Life | None, request: pb.CheckRequest) -> Verdict | None:
        """The verdict; None when the service is dead or answers nothing."""
        if life is None:
            return None
        try:
            response = await life.stub.Check(request, timeout=self._timeout_s)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return None  # gRPC cancels the calls of a channel that another check has closed
        except grpc.aio.AioRpcError as error:
            if error.code() in _GONE:
                return None
            raise ServiceError(f"{error.code().name}: {error.details()}") from error
        return verdict_from_proto(response.verdict)

    async def _revive(self, life: _Life | None) -> None:
        """Start the service again, unless another check has done so since `life`."""
        async with self._starting:
            if self._gone is not None:
                raise self._gone
            if self._life is not None and self._life is not life:
                return
            await self._end()
            try:
                if self._num_starts >= _MOST_STARTS:
                    raise ServiceGone(f"the verifier service died {self._num_starts} times")
                await self.start()
            except ServiceGone as gone:
                self._gone = gone
                raise

    async def _end(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            await life.channel.close()
        await self._child.stop(kill_after_s=_STOP_TIMEOUT_S)


@contextlib.asynccontextmanager
async def local_verifier(
    kinds: Sequence[str], overrides: Sequence[str]
) -> AsyncIterator[LocalVerifier]:
    """A verifier service on this machine for as long as the context is open.

    Args:
        kinds: what it is to have; one that does not exist has error verdicts.
        overrides: `verifier.KEY=VALUE`.

    Raises:
        ServiceGone: it does not start; with its last words.
    """
    address = f"127.0.0.1:{free_ports(1)[0]}"
    workers = min(_MOST_WORKERS, len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        child = Child(
            name="verifier",
            command=[
                *service_command("verifier"),
                f"--bind={address}",
                *(f"--only={kind}" for kind in kinds),
                f"--set=verifier.workers={workers}",
                *(f"--set={override}" for override in overrides),
            ],
            environment=child_environment(threads=1),
            log_path=Path(folder) / "verifier.log",
        )
        verifier = LocalVerifier(child, address)
        try:
            await verifier.start()
            yield verifier
        finally:
            await verifier.aclose()
