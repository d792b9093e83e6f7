"""Child processes that answer questions: a fixed number, killed at the deadline and replaced.

| waits for | unblocked by |
|---|---|
| an idle child | the end of another question, at most its deadline later |
| a reply | the child, its death, or the deadline |
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from json import loads
from types import TracebackType
from typing import Any, Self

from rlsd.errors import VerifierError, boundary
from services.verifier.children.frames import HEADER, body_length, pack

log = logging.getLogger(__name__)
_START_TIMEOUT_S = 60.0
_CHILD = "services.verifier.children.child"
_KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""Everything else stays here: the child reads what a model wrote, and needs no secrets."""


class ChildDied(VerifierError):
    """A child ended in the middle of a question."""

    def __init__(self, message: str, *, signal: int | None) -> None:
        """`signal` is what ended it; None when it left by itself."""
        super().__init__(message)
        self.signal = signal


class ChildPool:
    """Asks a module's `answer` in child processes, each one question at a time."""

    def __init__(self, module: str, *, num_children: int, timeout_s: float) -> None:
        """Prepare `num_children`; an answer may take `timeout_s`, waiting not counted."""
        self._children = [Child(module) for _ in range(num_children)]
        self._idle: list[Child] = []
        self._turn = asyncio.Semaphore(num_children)  # first come, first served: a Queue is not
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        """Start the children and wait until they are warm; raises VerifierError."""
        try:
            for child in self._children:
                await child.spawn()
            for child in self._children:
                await child.become_ready()
                self._idle.append(child)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill the children."""
        await self._close()

    async def ask(
        self, question: dict[str, Any], *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """The module's answer.

        Args:
            timeout_s: instead of the pool's own, for this question.

        Raises:
            TimeoutError: the deadline passed; the child has been replaced.
            ChildDied: it ended by itself, or was killed from outside.
            VerifierError: no child could be started, or one broke the protocol.
        """
        async with self._turn:
            child = self._idle.pop(0)
            try:
                await child.become_ready()
                return await child.ask(question, timeout_s=timeout_s or self._timeout_s)
            except (TimeoutError, VerifierError):
                await child.spawn()  # it warms up while nobody waits for it
                raise
            finally:
                self._idle.append(child)

    async def _close(self) -> None:
        for child in self._children:
            await child.aclose()


class Child:
    """One child process, started anew whenever it was killed or has died."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: asyncio.subprocess.Process | None = None
        self._is_ready = False
        self._is_killed = False

    async def spawn(self) -> None:
        """Start a fresh process without waiting until it is warm."""
        await self.aclose()
        environment = {k: os.environ[k] for k in _KEPT_ENVIRONMENT if k in os.environ}
        with boundary(VerifierError, f"{self._name} cannot be started", OSError):
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", _CHILD, self._module),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
            )

    async def become_ready(self) -> None:
        """Return once the process is warm; one that died while idle is replaced first.

        Raises:
            VerifierError: it does not start.
        """
        if self._has_ended:
            await self.spawn()
        if self._is_ready:
            return
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                ready = await self._receive()
        except (VerifierError, TimeoutError) as cause:
            raise VerifierError(
                f"{self._name} does not start ({cause}); is rlsd[verifier] installed?"
            ) from cause
        if ready["lacks"]:
            log.warning(
                "child is less confined", extra={"child": self._name, "lacks": ready["lacks"]}
            )
        self._is_ready = True

    async def ask(self, question: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """The reply; without one, whatever the reason, the process is killed."""
        has_answered = False
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._exchange(question)
            has_answered = True
        finally:
            if not has_answered:
                self._kill()  # else the next question would get this one's reply
        return reply

    async def aclose(self) -> None:
        """Kill the process and wait for its end."""
        self._kill()
        if self._process is not None:
            await self._process.wait()
        self._process = None
        self._is_ready = False
        self._is_killed = False

    async def _exchange(self, question: dict[str, Any]) -> dict[str, Any]:
        process = self._running
        assert process.stdin is not None
        try:
            process.stdin.write(pack(question))
            await process.stdin.drain()
        except ConnectionError as cause:
            raise await self._death() from cause
        reply: dict[str, Any] = await self._receive()
        return reply

    async def _receive(self) -> Any:
        process = self._running
        assert process.stdout is not None
        try:
            header = await process.stdout.readexactly(HEADER.size)
            return loads(await process.stdout.readexactly(body_length(header)))
        except (asyncio.IncompleteReadError, ConnectionError) as cause:
            raise await self._death() from cause
        except ValueError as cause:
            raise VerifierError(f"{self._name} broke its protocol: {cause}") from cause

    async def _death(self) -> ChildDied:
        code = await self._running.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return ChildDied(f"{self._name} died ({how})", signal=-code if code < 0 else None)

    @property
    def _name(self) -> str:
        """For people: the package of the module is the kind."""
        return f"{self._module.split('.')[-2]} child"

    @property
    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "a child is spawned before it is used"
        return self._process

    def _kill(self) -> None:
        self._is_killed = True  # the loop hears of its death only later
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    @property
    def _has_ended(self) -> bool:
        process = self._process
        if process is None or self._is_killed or process.returncode is not None:
            return True
        try:  # one that died by itself a moment ago is known to the kernel first
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, process.pid, flags) is not None
        except ChildProcessError:
            return True
