"""The fork server's own namespaces in tier 1: user, process, mount, network, message, name."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Final

from services.verifier.sandbox.kernel import Namespace, die_with_parent, unshare
from services.verifier.sandbox.root import build_root, open_runtimes

_INSIDE_ID: Final = 1000
_NOBODY_ELSE_ID: Final = 61_184
"""Outside, when the service is root: no file and no process of the machine is this user's."""
_ALL: Final = (
    Namespace.USER | Namespace.PID | Namespace.MOUNT | Namespace.NET | Namespace.IPC | Namespace.UTS
)


def enter_namespaces() -> None:
    """Go on as process 1 in namespaces of its own, with nothing of the machine but runtimes.

    The process that called it stays outside and waits; it dies with its parent, and this with it.

    Raises:
        OSError: the machine does not allow it.
    """
    _leave_with_identity()
    keeper = os.fork()
    if keeper:
        _keep(keeper)
    die_with_parent(signal.SIGKILL)
    runtimes = open_runtimes()
    os.setresgid(_INSIDE_ID, _INSIDE_ID, _INSIDE_ID)
    os.setresuid(_INSIDE_ID, _INSIDE_ID, _INSIDE_ID)
    build_root(tempfile.gettempdir(), runtimes)
    die_with_parent(signal.SIGKILL)  # a change of identity clears it


def _keep(pid: int) -> None:
    """Wait for the end of process 1, with no descriptor of it open."""
    os.closerange(3, 65536)
    _, status = os.waitpid(pid, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _leave_with_identity() -> None:
    """Unshare, while a helper outside writes who this is inside: a root may choose, others not."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        os.setgroups([])
        user = group = _NOBODY_ELSE_ID
    unshared = os.pipe()
    target = os.getpid()
    helper = os.fork()
    if helper == 0:
        code = 1
        try:
            os.close(unshared[1])
            if os.read(unshared[0], 1):
                _write_identity(target, user, group)
                code = 0
        finally:
            os._exit(code)
    unshare(_ALL)
    os.write(unshared[1], b"1")
    _, status = os.waitpid(helper, 0)
    for descriptor in unshared:
        os.close(descriptor)
    if status:
        raise OSError("no identity inside a user namespace can be had")


def _write_identity(pid: int, user: int, group: int) -> None:
    process = Path(f"/proc/{pid}")
    if os.geteuid() != 0:
        (process / "setgroups").write_text("deny")
    (process / "uid_map").write_text(f"{_INSIDE_ID} {user} 1")
    (process / "gid_map").write_text(f"{_INSIDE_ID} {group} 1")
