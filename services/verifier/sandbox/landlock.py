"""Landlock: files that a process may still use, no TCP, no signals to the outside.

A process puts itself under it; there is no way back, and children inherit it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable
from typing import Final

from services.verifier.sandbox.kernel import LandlockCall, landlock

_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
WRITE: Final = (1 << 16) - 1
"""All rights; what an ABI does not know is left out."""
DEVICE: Final = _READ_FILE | _WRITE_FILE
_ONLY_DIRECTORIES = ~(_EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE)
_TCP_BIND_CONNECT = 0b11
_SCOPE_ABSTRACT_SOCKET_AND_SIGNAL = 0b11
_ABI_TCP, _ABI_SCOPES = 4, 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


def abi() -> int:
    """What the kernel knows, from 1; 0 without Landlock."""
    try:
        return landlock(LandlockCall.CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_VERSION)
    except OSError:
        return 0


def restrict(rules: Iterable[tuple[str, int]], known: int) -> None:
    """Forbid all files but those given, with their rights; paths that do not exist are left out.

    Args:
        rules: path and rights; a directory stands for all below it.
        known: the kernel's `abi()`, at least 1.

    Raises:
        OSError: the kernel refuses.
    """
    files = _file_rights(known)
    ruleset = _Ruleset(
        files,
        _TCP_BIND_CONNECT if known >= _ABI_TCP else 0,
        _SCOPE_ABSTRACT_SOCKET_AND_SIGNAL if known >= _ABI_SCOPES else 0,
    )
    size = 24 if known >= _ABI_SCOPES else 16 if known >= _ABI_TCP else 8
    descriptor = landlock(
        LandlockCall.CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), 0
    )
    try:
        for path, rights in rules:
            with contextlib.suppress(FileNotFoundError):
                _allow(descriptor, path, rights & files)
        landlock(LandlockCall.RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)


def _allow(ruleset: int, path: str, rights: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= ~_ONLY_DIRECTORIES
        rule = _PathBeneath(rights, beneath)
        landlock(LandlockCall.ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(beneath)


def _file_rights(known: int) -> int:
    """All rights about files that this ABI knows: what is not known cannot be forbidden."""
    highest = 16 if known >= 5 else 15 if known >= 3 else 14 if known >= 2 else 13
    return (1 << highest) - 1
