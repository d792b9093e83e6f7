"""The service's end of a fork server: orders, ends of runs, a new server when one has died.

| waits for | bound | unblocked by |
|---|---|---|
| a place to run | the runs before it | the end of one of them |
| the end of a run | 4 × its limit + `_GRACE_S` | the fork server, its death, or the bound |
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final

from services.verifier.sandbox.ending import Ended, Limits, SandboxError, end_of_run
from services.verifier.sandbox.memory import MemoryGroups
from services.verifier.sandbox.tier import Tier

_ZYGOTE: Final = "services.verifier.sandbox.zygote"
_START_TIMEOUT_S = 30.0
_GRACE_S = 10.0
_MESSAGE_BYTES = 65536
_KEPT_ENVIRONMENT = ("PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


class Places:
    """So many may run at once; the others wait. A context for one place, entered by each."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.busy = 0
        self._free = asyncio.Semaphore(total)

    async def __aenter__(self) -> None:
        await self._free.acquire()
        self.busy += 1

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.busy -= 1
        self._free.release()


class Sandbox:
    """Runs jobs in confined processes, one fork server for all."""

    def __init__(
        self, tier: Tier, jobs: Sequence[str], *, max_runs: int, component: str = ""
    ) -> None:
        """Prepare; `start` makes it ready.

        Args:
            jobs: modules with `run` and `starts_programs`, see `box.Job`.
            max_runs: processes at once; further runs wait.
            component: the file that has the jobs in tier 3.
        """
        self.tier = tier
        self.component = component
        self._jobs = tuple(jobs)
        self.remark = ""
        """What this machine adds to the tier or lacks of it, in words."""
        self._places = Places(max_runs)
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._starting = asyncio.Lock()
        self.generation = 0
        """How often the fork server was started."""
        self.bounds_runs = False
        """Whether the memory of a run's processes is bounded together."""
        self.groups: MemoryGroups | None = None
        """What bounds it; None: the fork server looks now and then."""

    async def start(self) -> None:
        """Start the fork server; raises SandboxError with its last words."""
        await self.aclose()
        self.generation += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        environment = {k: os.environ[k] for k in _KEPT_ENVIRONMENT if k in os.environ}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-B", "-m", _ZYGOTE, self.tier, str(theirs.fileno())),
                *(self.component, *self._jobs),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                pass_fds=(theirs.fileno(),),
            )
        except OSError as cause:
            ours.close()
            raise SandboxError(f"the sandbox cannot be started: {cause.strerror}") from cause
        finally:
            theirs.close()
        self._control = ours
        await self._become_ready(ours)
        asyncio.get_running_loop().add_reader(ours, self._hear)

    async def aclose(self) -> None:
        """Kill the fork server, and all runs with it."""
        self._lose("the sandbox was closed")
        if self._process is not None:
            self._kill()
            await self._process.communicate()
            self._process = None

    async def run(self, job: str, descriptors: Sequence[int], limits: Limits) -> Ended:
        """Run a job to its end.

        Args:
            descriptors: payload, standard input, output and error, then the job's own; they stay
                the caller's to close.

        Raises:
            SandboxError: the run could not be had, or the fork server died in the middle of it.
        """
        async with self.place():
            return await self.run_beside(job, descriptors, limits)

    def place(self) -> Places:
        """A place to run, as a context; for runs that belong together."""
        return self._places

    async def run_beside(self, job: str, descriptors: Sequence[int], limits: Limits) -> Ended:
        """As `run`, for one that belongs to a run that has a place already."""
        await self.revive()
        return await self.attempt(job, descriptors, limits)

    async def attempt(self, job: str, descriptors: Sequence[int], limits: Limits) -> Ended:
        """As `run_beside`, by the fork server that is there, which is not replaced."""
        if not self.bounds_runs:
            limits = replace(limits, all_memory_bytes=0)
        if self.groups is None or not limits.all_memory_bytes:
            return await self._attempt(job, descriptors, limits)
        try:
            with self.groups.group(limits.all_memory_bytes) as group:
                door = group.opened()
                try:
                    ended = await self._attempt(job, (*descriptors, door), limits, joins=True)
                finally:
                    os.close(door)
                return replace(ended, is_out_of_memory=group.has_killed())
        except OSError as cause:
            raise SandboxError(f"no memory group can be had ({cause.strerror})") from cause

    async def _attempt(
        self, job: str, descriptors: Sequence[int], limits: Limits, *, joins: bool = False
    ) -> Ended:
        control = self._control
        if control is None:
            raise SandboxError("the sandbox died")
        wall_s = limits.wall_s * self.tier.slowness
        number = next(self._numbers)
        order = {
            "id": number,
            "job": job,
            "wall_s": wall_s,
            "memory": limits.memory_bytes,
            "output": limits.output_bytes,
            "joins": joins,
            "all_memory": 0 if joins else limits.all_memory_bytes,
        }
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await _send(control, json.dumps(order).encode(), descriptors)
            async with asyncio.timeout(4 * wall_s + _GRACE_S):
                return end_of_run(await future, self.tier)
        except TimeoutError as cause:
            self._lose("the sandbox does not answer")
            raise SandboxError("the sandbox does not answer") from cause
        except OSError as cause:
            raise SandboxError(f"the sandbox cannot be reached ({cause.strerror})") from cause
        finally:
            self._waiting.pop(number, None)
            if not future.done() or future.cancelled():
                self._end(number)
            future.cancel()

    @property
    def pid(self) -> int | None:
        """Of the process that was started."""
        return None if self._process is None else self._process.pid

    def _end(self, number: int) -> None:
        """Kill a run that nobody waits for any more."""
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.send(json.dumps({"end": number}).encode())

    @property
    def is_alive(self) -> bool:
        """Whether there is a fork server to run by."""
        return self._control is not None

    async def revive(self) -> None:
        """Replace a fork server that died; raises SandboxError."""
        async with self._starting:
            if self._control is None:
                await self.start()

    async def _become_ready(self, control: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                text = await loop.sock_recv(control, _MESSAGE_BYTES)
        except (OSError, TimeoutError):
            text = b""
        if not text:
            words = await self._last_words()
            self._lose("the sandbox does not start")
            raise SandboxError(f"the sandbox does not start: {words}")
        self.remark = json.loads(text)["remark"]

    async def _last_words(self) -> str:
        assert self._process is not None
        self._kill()
        _, errors = await self._process.communicate()
        lines = errors.decode(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else "it says nothing"

    def _kill(self) -> None:
        """Not by `Process.kill`, which looks first and may take its end from asyncio's watcher."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    def _hear(self) -> None:
        assert self._control is not None
        try:
            while text := self._control.recv(_MESSAGE_BYTES):
                message = json.loads(text)
                future = self._waiting.get(message["id"])
                if future is not None and not future.done():
                    future.set_result(message)
            self._lose("the sandbox died")
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(f"the sandbox died ({error.strerror})")

    def _lose(self, why: str) -> None:
        """Nothing more will come from this fork server."""
        control, self._control = self._control, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control)
            control.close()
        self._kill()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(SandboxError(why))


@contextlib.asynccontextmanager
async def opened(sandbox: Sandbox) -> AsyncIterator[Sandbox]:
    """A sandbox that is started and closed."""
    try:
        await sandbox.start()
        yield sandbox
    finally:
        await sandbox.aclose()


async def _send(control: socket.socket, text: bytes, descriptors: Sequence[int]) -> None:
    while True:
        try:
            socket.send_fds(control, [text], list(descriptors))
            return
        except BlockingIOError:
            await asyncio.sleep(0.005)
