"""Moments between two durable actions, at which a test may have this process killed.

Without `RLSD_FAILPOINT` nothing happens. `RLSD_FAILPOINT=log/settle:2,train/publish` kills the
process with SIGKILL the second time it is between log and settle, and the first time between train
and publish. `RLSD_FAILPOINT_ONCE=FILE` keeps the count over restarts, so that a process that is
started again does not die for ever.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections import Counter

POINTS = (
    "seal/log",
    "log/settle",
    "settle/train",
    "train/publish",
    "publish/checkpoint",
    "checkpoint/retain",
    "checkpoint-fill/rename",
    "file-write/rename",
    "folder-fill/rename",
    "process/advance",
    "advance/next",
)
"""Every point in the code, named by what is done before it and what comes after."""

_passed: Counter[str] = Counter()
"""Of this process alone, when there is no file."""


def failpoint(name: str) -> None:
    """Die here if the environment says so."""
    wanted = os.environ.get("RLSD_FAILPOINT")
    if wanted is not None:
        _pass(name, wanted)


def _pass(name: str, wanted: str) -> None:
    assert name in POINTS, f"{name} is not a point"
    targets = {_target(part) for part in wanted.split(",")}
    if unknown := {point for point, _ in targets} - set(POINTS):
        raise ValueError(f"RLSD_FAILPOINT: no points named {sorted(unknown)}; there are {POINTS}")
    if (name, _count(name)) in targets:
        os.kill(os.getpid(), signal.SIGKILL)


def _target(part: str) -> tuple[str, int]:
    name, _, number = part.partition(":")
    return name, int(number or 1)


def _count(name: str) -> int:
    """How often the point has been passed, this time included."""
    path = os.environ.get("RLSD_FAILPOINT_ONCE")
    if path is None:
        _passed[name] += 1
        return _passed[name]
    with open(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{name}\n")
        file.flush()
        file.seek(0)
        return file.read().splitlines().count(name)
