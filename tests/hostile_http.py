"""A verifier made of bytes: it answers exactly what a test says, also what no server should."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Received:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Respond = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class HostileServer:
    respond: Respond
    port: int = 0
    received: list[Received] = field(default_factory=list)
    num_connections: int = 0
    num_written: int = 0
    names: list[str | None] = field(default_factory=list)
    """What the client named in each TLS handshake."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/verify"


def response(
    body: bytes, *, status: int = 200, headers: tuple[str, ...] = (), length: int | None = None
) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *headers]
    if not any(h.lower().startswith("transfer-encoding") for h in headers):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def saying(value: Any, *, status: int = 200, headers: tuple[str, ...] = ()) -> Respond:
    """Always the same JSON (or the same bytes)."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()

    async def respond(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(response(body, status=status, headers=headers))
        await writer.drain()

    return respond


def scoring(score: Any) -> Respond:
    return saying({"outcome": "scored", "score": score})


def in_turn(*responds: Respond) -> Respond:
    """The first answer to the first request, …; the last one for ever."""
    left = list(responds)

    async def respond(received: Received, writer: asyncio.StreamWriter) -> None:
        now = left.pop(0) if len(left) > 1 else left[0]
        await now(received, writer)

    return respond


async def hanging_up(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def silent(_: Received, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


@contextlib.asynccontextmanager
async def hostile_server(
    respond: Respond, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[HostileServer]:
    server = HostileServer(respond)
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.num_connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                received = await _read(reader)
                server.received.append(received)
                await server.respond(received, writer)
                if writer.is_closing():
                    return

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        task = asyncio.get_running_loop().create_task(talk(reader, writer))
        tasks.add(task)

        def ended(_: asyncio.Task[None]) -> None:
            tasks.discard(task)
            writer.transport.abort()

        task.add_done_callback(ended)

    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: server.names.append(name)
    listener = await asyncio.start_server(accept, "127.0.0.1", port, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await asyncio.sleep(0.01)  # what was accepted just now has become a task
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.partition(":")[::2] for line in lines if line)
    headers = {name.lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body)
