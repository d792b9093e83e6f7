"""`python -m tests.chaos.proxy PORT TO_PORT`: a slow and unreliable wire to a local server.

Every chunk arrives late, in order. About one in `--reset-every` does not arrive: both ends get a
reset (RST) instead. Each reset is a line of output.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rlsd.local.processes import Child, free_ports
from rlsd.telemetry.process import prepare_process
from tests.chaos.system import System

_CHUNK = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class Wire:
    """How bad it is."""

    latency_s: float
    """Of each direction."""
    gaps: Iterator[int]
    """Chunks from one reset to the next."""


class Proxy:
    """Passes connections on to a port of this machine."""

    def __init__(self, to_port: int, wire: Wire) -> None:
        self._to_port = to_port
        self._wire = wire
        self._left = next(wire.gaps)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either end or the dice end it."""
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        except OSError:
            writer.transport.abort()
            return
        pipes = [
            asyncio.ensure_future(self._pipe(reader, far_writer)),
            asyncio.ensure_future(self._pipe(far_reader, writer)),
        ]
        done, others = await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for pipe in others:
            pipe.cancel()
        is_reset = any(pipe.result() for pipe in done)
        for end in (writer, far_writer):
            if is_reset:
                _reset(end)
            else:
                end.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass chunks on until the end; whether it ends with a reset."""
        now = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def read() -> None:
            with contextlib.suppress(OSError):
                while chunk := await reader.read(_CHUNK):
                    under_way.put_nowait((now() + self._wire.latency_s, chunk))
            under_way.put_nowait((now(), b""))

        reading = asyncio.ensure_future(read())
        try:
            while True:
                due, chunk = await under_way.get()
                await asyncio.sleep(due - now())
                if not chunk:
                    return False
                if self._is_lost():
                    return True
                writer.write(chunk)
                await writer.drain()
        except OSError:
            return False
        finally:
            reading.cancel()

    def _is_lost(self) -> bool:
        self._left -= 1
        if self._left:
            return False
        self._left = next(self._wire.gaps)
        sys.stdout.write("reset\n")
        sys.stdout.flush()
        return True


def _reset(end: asyncio.StreamWriter) -> None:
    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    end.transport.abort()


def gaps(mean: int, *, seed: int) -> Iterator[int]:
    """Gaps between resets: even draws around a mean, so that there is a longest one."""
    dice = random.Random(seed)
    while True:
        yield dice.randint(1, 2 * mean - 1)


def behind_proxy(parts: System, *, latency_s: float, reset_every: int, seed: int) -> System:
    """The same processes, with a bad wire between all of them and Redis."""
    (port,) = free_ports(1)
    redis, *services = parts.children
    command = [sys.executable, "-m", "tests.chaos.proxy", str(port), str(parts.redis_port)]
    command += [f"--latency={latency_s}", f"--reset-every={reset_every}", f"--seed={seed}"]
    log_path = services[0].log_path.with_name("proxy.log")
    proxy = Child(
        name="proxy", command=command, environment=services[0].environment, log_path=log_path
    )
    for service in services:
        url = parts.redis_url.replace(f":{parts.redis_port}/", f":{port}/")
        service.environment = {**service.environment, "RLSD_REDIS_URL": url}
    return replace(parts, children=(redis, proxy, *services))


def main() -> None:
    """Listen until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.proxy", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("to_port", type=int)
    parser.add_argument("--latency", type=float, required=True, help="seconds, each direction")
    parser.add_argument("--reset-every", type=int, required=True, help="chunks, on average")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    prepare_process("proxy")
    wire = Wire(latency_s=arguments.latency, gaps=gaps(arguments.reset_every, seed=arguments.seed))

    async def listen() -> None:
        proxy = Proxy(arguments.to_port, wire)
        server = await asyncio.start_server(proxy.handle, "127.0.0.1", arguments.port)
        await server.serve_forever()

    asyncio.run(listen())


if __name__ == "__main__":
    main()
