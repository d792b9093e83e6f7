"""For a child that answers questions with libraries of ours: it keeps what these need.

Weaker than a box, since nothing here was written by a model: but what a model wrote is parsed by
these libraries, and a hole in one of them should lead nowhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

from services.verifier.sandbox import landlock
from services.verifier.sandbox.kernel import (
    drop_capabilities,
    filter_system_calls,
    forbid_new_privileges,
)
from services.verifier.sandbox.root import DEVICES, runtime_paths

_PACKAGE = Path(__file__).resolve().parents[3]
_READ_TOO = (
    *("/etc/localtime", "/proc/meminfo", "/proc/cpuinfo", "/proc/self"),
    *("/sys/devices/system/cpu", "/sys/fs/cgroup"),
)
"""What libraries ask about the machine; DuckDB ends the process where it may not."""


def lock_down() -> list[str]:
    """Keep reading what is installed; lose the network, processes, signals and all writing.

    Returns:
        what this machine cannot take away, in words; empty when all is done.
    """
    known = landlock.abi()
    lacks = []
    program = None
    try:
        from services.verifier.sandbox import filters

        program = filters.answering()
    except (ImportError, RuntimeError):
        lacks.append("seccomp (libseccomp is not installed)")
    drop_capabilities()
    forbid_new_privileges()
    if known:
        landlock.restrict(_rules(), known)
    else:
        lacks.append("Landlock")
    if program is not None:
        try:
            filter_system_calls(program)
        except OSError:
            lacks.append("seccomp")
    return lacks


def _rules() -> list[tuple[str, int]]:
    own = [_PACKAGE / "services", _PACKAGE / "rlsd"]
    readable = [*runtime_paths(), sys.prefix, *map(str, own), *filter(None, sys.path), *_READ_TOO]
    rules = [(path, landlock.READ) for path in dict.fromkeys(readable)]
    rules += [(f"/dev/{name}", landlock.DEVICE) for name in DEVICES]
    return rules
