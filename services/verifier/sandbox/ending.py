"""What a run may use and how it ended: what passes between the sandbox and those who use it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rlsd.errors import VerifierError
from services.verifier.sandbox.tier import Tier


class SandboxError(VerifierError):
    """The sandbox itself failed: says nothing about what was to run in it."""


class End(StrEnum):
    """How a run ended."""

    EXITED = "exited"
    TIME = "time limit"
    SIGNAL = "signal"
    VIOLATION = "policy violation"
    OUTSIDE = "killed from outside"


class RunResult(StrEnum):
    """What became of a run, as it is counted."""

    OK = "ok"
    """Exit code 0."""
    FAILED = "failed"
    """Another exit code."""
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    SIGNAL = "signal"
    VIOLATION = "policy_violation"
    ERROR = "error"
    """No fault of its own: the sandbox failed, or it was killed from outside."""


_RESULTS = {
    End.TIME: RunResult.TIMEOUT,
    End.VIOLATION: RunResult.VIOLATION,
    End.OUTSIDE: RunResult.ERROR,
}
_LAST_BYTES = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use."""

    wall_s: float
    """Less the time that it waits for a processor; of a slow tier, what the others would need."""
    memory_bytes: int
    """Of each process."""
    output_bytes: int
    all_memory_bytes: int = 0
    """Of all processes together, where that can be had; 0 for a run that is one process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of one run."""

    end: End
    exit_code: int
    """Or the number of the signal."""
    cpu_s: float
    wall_s: float
    used_s: float
    """By the clock, less what it waited for a processor: at most three quarters of the time, when
    it was more than one process, as nobody knows that of the others."""
    peak_bytes: int
    is_out_of_memory: bool = False
    """Whether a process of it was ended since together they held too much."""


def result_of(ended: Ended, descriptors: Sequence[int], limits: Limits) -> RunResult:
    """What became of a run, in one word.

    Args:
        descriptors: of its files, see `RunFiles`: standard output is the third, error the fourth.
    """
    if ended.is_out_of_memory:
        return RunResult.MEMORY
    if ended.end in _RESULTS:
        return _RESULTS[ended.end]
    if os.fstat(descriptors[2]).st_size >= limits.output_bytes:
        return RunResult.OUTPUT
    if ended.end is End.SIGNAL:
        return RunResult.SIGNAL
    if ended.exit_code == 0:
        return RunResult.OK
    size = os.fstat(descriptors[3]).st_size
    last = os.pread(descriptors[3], _LAST_BYTES, max(0, size - _LAST_BYTES)).strip()
    is_memory = last.rpartition(b"\n")[2].startswith(b"MemoryError")
    return RunResult.MEMORY if is_memory else RunResult.FAILED


def end_of_run(message: dict[str, Any], tier: Tier) -> Ended:
    """What the fork server says of a run; raises SandboxError when it was none."""
    if "failed" in message:
        raise SandboxError(f"the sandbox {message['failed']}")
    if not message["confined"]:
        raise SandboxError("the sandbox could not confine a run")
    code = os.waitstatus_to_exitcode(message["status"])
    if message["timed_out"]:
        end = End.TIME
    elif code >= 0:
        end = End.EXITED
    elif -code == signal.SIGKILL:
        end = End.OUTSIDE
    elif -code == signal.SIGSYS:
        end = End.VIOLATION
    else:
        end = End.SIGNAL
    return Ended(
        end=end,
        exit_code=abs(code),
        cpu_s=message["cpu_s"],
        wall_s=message["wall_s"],
        used_s=message["used_s"] / tier.slowness,
        is_out_of_memory=message["out_of_memory"],
        peak_bytes=message["peak_bytes"],
    )
