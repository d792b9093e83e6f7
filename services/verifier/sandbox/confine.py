"""What a process does to itself before it runs what a model wrote. There is no way back."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from dataclasses import dataclass
from typing import Final

from services.verifier.sandbox import landlock
from services.verifier.sandbox.kernel import (
    Mount,
    Namespace,
    die_with_parent,
    drop_capabilities,
    filter_system_calls,
    forbid_new_privileges,
    mount,
    unmount,
    unshare,
)
from services.verifier.sandbox.root import DEVICES, SCRATCH, runtime_paths
from services.verifier.sandbox.tier import Tier

SCRATCH_BYTES: Final = 64 * 1024**2
MAX_FILES: Final = 256
MAX_PROCESSES: Final = 96
"""Threads count as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """How the runs of one fork server are confined."""

    tier: Tier
    landlock_abi: int
    python: bytes
    """The system calls of an interpreter."""
    programs: bytes
    """The system calls of compilers and other languages."""
    files: tuple[tuple[str, int], ...]
    """Paths with the Landlock rights to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use."""

    memory_bytes: int
    output_bytes: int
    """Of each file, standard output among them."""


def confine(confinement: Confinement, limits: Limits, *, starts_programs: bool) -> None:
    """Give up all that the run does not need; raises OSError when a part of it fails."""
    die_with_parent(signal.SIGKILL)
    if confinement.tier is Tier.T1:
        _private_namespaces(keeps_proc=starts_programs)
    _limit(limits, confinement.tier, starts_programs=starts_programs)
    drop_capabilities()
    forbid_new_privileges()
    landlock.restrict(confinement.files, confinement.landlock_abi)
    filter_system_calls(confinement.programs if starts_programs else confinement.python)


def _private_namespaces(*, keeps_proc: bool) -> None:
    """Mounts, message queues and name of its own; its process numbers are already."""
    unshare(Namespace.MOUNT | Namespace.IPC | Namespace.UTS)
    options = f"size={SCRATCH_BYTES},nr_inodes=4096,mode=700"
    mount("tmpfs", SCRATCH, "tmpfs", Mount.NO_SUID | Mount.NO_DEVICES, options)
    _own_proc(wanted=keeps_proc)
    os.chdir(SCRATCH)
    unshare(Namespace.USER)  # so that its threads and processes are counted alone


def _own_proc(*, wanted: bool) -> None:
    """Processes of its own to look at, or none: never those of the fork server."""
    if not os.path.ismount("/proc"):
        return  # the kernel did not allow any here
    if wanted:
        with contextlib.suppress(OSError):
            mount("proc", "/proc", "proc", Mount.NO_SUID | Mount.NO_DEVICES)
            return
    unmount("/proc")


def _limit(limits: Limits, tier: Tier, *, starts_programs: bool) -> None:
    memory = resource.RLIMIT_DATA if starts_programs else resource.RLIMIT_AS
    _set(memory, limits.memory_bytes)
    _set(resource.RLIMIT_FSIZE, limits.output_bytes)
    _set(resource.RLIMIT_NOFILE, MAX_FILES)
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_MEMLOCK, 0)
    if tier is Tier.T1:
        _set(resource.RLIMIT_NPROC, MAX_PROCESSES)


def _set(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (limit, limit))


def file_rules(tier: Tier) -> tuple[tuple[str, int], ...]:
    """What a run may do with which paths."""
    rules = [(path, landlock.READ) for path in runtime_paths()]
    rules += [(f"/dev/{name}", landlock.DEVICE) for name in DEVICES]
    if tier is Tier.T1:
        rules += [(SCRATCH, landlock.READ | landlock.WRITE), ("/proc", landlock.READ)]
    return tuple(rules)
