"""Runs in the sandbox as the check needs them: repeated when it was not their own fault."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from services.verifier.checks.code.params import CodeParams
from services.verifier.sandbox.client import End, Ended, Limits, SandboxError
from services.verifier.sandbox.files import RunFiles

PROGRAM: Final = "services.verifier.checks.code.boxed.program"
OUTPUT_BYTES: Final = 16 * 1024**2
_ATTEMPTS = 10

T = TypeVar("T")


class KilledFromOutside(SandboxError):
    """A run was killed, and not by the sandbox: an operator, or a machine without memory."""

    def __init__(self) -> None:
        super().__init__("a run was killed from outside the sandbox")


async def repeated(attempt: Callable[[], Awaitable[T]]) -> T:
    """The outcome of an attempt; one that the sandbox spoilt is made again.

    Raises:
        SandboxError: it was spoilt each time.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return await attempt()
        except SandboxError:
            continue
    return await attempt()


def limits_of(params: CodeParams, *, expected: int = 0, scale: float = 1.0) -> Limits:
    """What one run may use; `expected` is how many bytes it has to print."""
    return Limits(
        wall_s=params.time_limit_s * scale,
        memory_bytes=params.memory_limit_mb * 1024**2,
        output_bytes=max(OUTPUT_BYTES, 2 * expected),
    )


def own_fault(ended: Ended, files: RunFiles, limits: Limits) -> str:
    """Why a run is no success, in short words; empty when it is one.

    Raises:
        KilledFromOutside: nobody can say.
    """
    if ended.end is End.OUTSIDE:
        raise KilledFromOutside
    if ended.end is End.TIME:
        return "time limit"
    if files.output_bytes >= limits.output_bytes:
        return "output limit"
    if ended.end is End.VIOLATION:
        return "policy violation"
    if ended.end is End.EXITED and ended.exit_code == 0:
        return ""
    last = files.errors().strip().rpartition("\n")[2]
    if last.startswith("MemoryError"):
        return "memory limit"
    how = "exit code" if ended.end is End.EXITED else "signal"
    return f"{how} {ended.exit_code}{f': {last[:160]}' if last else ''}"
