"""Start-up and children on machines that lack a layer of confinement."""

from __future__ import annotations

import asyncio
import json
import socket
import sys

import pytest

_WITHOUT = """
import errno, os, sys
import pyseccomp
rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
for name in sys.argv[1].split(","):
    rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
rules.load()
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""

_INSIDE_A_CHILD = """
import json, os, socket, sys, tempfile, threading
folder, parent = sys.argv[1], os.getppid()
from services.verifier.sandbox.lockdown import lock_down
lacks = lock_down()
attempts = {
    "read": lambda: open(folder + "/secret"),
    "write": lambda: open(folder + "/new", "w"),
    "passwd": lambda: open("/etc/passwd"),
    "environment": lambda: open(f"/proc/{parent}/environ"),
    "socket": socket.socket,
    "vsock": lambda: socket.socket(40, socket.SOCK_STREAM),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "fork": os.fork,
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "signal": lambda: os.kill(parent, 0),
}
open_ways = []
for name, attempt in attempts.items():
    try:
        attempt()
        open_ways.append(name)
    except OSError:
        pass
thread = threading.Thread(target=lambda: None)
thread.start()
import fractions, sqlite3
print(json.dumps([lacks, open_ways]))
"""


async def _output(*arguments):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, output.decode(), errors.decode()


def _free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("call", ["landlock_create_ruleset", "seccomp,prctl"])
async def test_a_service_for_code_without_a_sandbox_does_not_start(call):
    port = _free_port()
    serve = ("-m", "services.verifier", "--only", "code", "--bind", f"127.0.0.1:{port}")
    code, output, errors = await _output("-c", _WITHOUT, call, *serve)
    assert (code, output) == (78, "")
    assert errors.startswith("rlsd verifier: no sandbox of verifier.min_isolation T2 here (T1: ")
    assert errors.count("\n") == 1
    assert "service ready" not in errors


async def test_without_the_kind_no_sandbox_is_asked_for():
    serve = ("-m", "services.verifier", "--only", "exact", "--bind", "nowhere")
    _, _, errors = await _output("-c", _WITHOUT, "landlock_create_ruleset", *serve)
    assert "--bind 'nowhere': write it as host:port" in errors  # the first thing that it minds
    assert "min_isolation" not in errors


async def test_a_child_that_is_locked_down_reads_what_is_installed_and_nothing_else(tmp_path):
    (tmp_path / "secret").write_text("secret")
    code, output, errors = await _output("-c", _INSIDE_A_CHILD, str(tmp_path))
    assert code == 0, errors
    assert json.loads(output) == [[], []]


async def test_a_child_says_what_the_kernel_lacks(tmp_path):
    (tmp_path / "secret").write_text("secret")
    child = ("-c", _INSIDE_A_CHILD, str(tmp_path))
    code, output, errors = await _output("-c", _WITHOUT, "landlock_create_ruleset", *child)
    assert code == 0, errors
    lacks, open_ways = json.loads(output)
    assert lacks == ["Landlock"]
    assert {"read", "write", "passwd"} <= set(open_ways)
    assert not {"socket", "vsock", "unix", "fork", "execute", "signal"} & set(open_ways)
