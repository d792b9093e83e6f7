"""Calls of the Linux kernel that Python has no functions for; each raises OSError."""

from __future__ import annotations

import ctypes
import os
from enum import IntEnum, IntFlag

_LIBC = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY_NOSUID_NODEV = 0x1 | 0x2 | 0x4
_MNT_DETACH = 2


class Namespace(IntFlag):
    """What `unshare` makes anew."""

    MOUNT = 0x00020000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NET = 0x40000000


class Mount(IntFlag):
    """Flags of `mount`."""

    READ_ONLY = 1
    NO_SUID = 2
    NO_DEVICES = 4
    NO_EXECUTION = 8
    REMOUNT = 32
    BIND = 4096
    RECURSIVE = 16384
    PRIVATE = 1 << 18


class LandlockCall(IntEnum):
    """The same numbers on every architecture."""

    CREATE_RULESET = 444
    ADD_RULE = 445
    RESTRICT_SELF = 446


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def unshare(namespaces: Namespace) -> None:
    """Leave the namespaces of the parent."""
    _check(_LIBC.unshare(int(namespaces)))


def enter_namespace(descriptor: int, kind: Namespace) -> None:
    """Go (back) to a namespace that is open."""
    _check(_LIBC.setns(descriptor, int(kind)))


def mount(
    source: str, target: str, kind: str | None = None, flags: int = 0, options: str | None = None
) -> None:
    """Attach a file system, or change how one is attached."""
    _check(
        _LIBC.mount(
            source.encode(), target.encode(), _bytes(kind), ctypes.c_ulong(flags), _bytes(options)
        )
    )


def make_read_only(target: str) -> None:
    """A mount and all below it: read-only, no set-uid programs, no devices."""
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY_NOSUID_NODEV, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    path = target.encode()
    _check(
        _LIBC.syscall(
            _SYS_MOUNT_SETATTR, _AT_FDCWD, path, _AT_RECURSIVE, ctypes.byref(attributes), size
        )
    )


def unmount(target: str) -> None:
    """Detach a mount, whoever still uses it."""
    _check(_LIBC.umount2(target.encode(), _MNT_DETACH))


def pivot_root(new_root: str) -> None:
    """Make a mount the root and forget the old one."""
    os.chdir(new_root)
    _check(_LIBC.syscall(_SYS_PIVOT_ROOT[os.uname().machine], b".", b"."))
    unmount(".")
    os.chdir("/")


def die_with_parent(signal: int) -> None:
    """Get `signal` when the parent thread ends."""
    _check(_LIBC.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0))


def drop_capabilities() -> None:
    """None of them, and none by executing a program either."""
    _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_LIBC.syscall(_SYS_CAPSET[os.uname().machine], header, nothing))


def forbid_new_privileges() -> None:
    """Executing a program never gives more rights; Landlock and seccomp want it."""
    _check(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def filter_system_calls(program: bytes) -> None:
    """Install a seccomp filter, as `sock_filter` instructions of 8 bytes."""
    block = _Filter(len(program) // 8, program)
    _check(_LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(block), 0, 0))


def landlock(call: LandlockCall, *arguments: object) -> int:
    """A Landlock system call."""
    return _check(_LIBC.syscall(int(call), *arguments))


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
