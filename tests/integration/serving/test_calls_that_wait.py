"""The learner's own calls while a service is away, killed under them, or there several times."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import grpc
import pytest
from builders import make_group

from rlsd.config import Addresses
from rlsd.errors import ServiceError
from rlsd.local.processes import free_ports
from rlsd.wire.v1 import verifier_service_pb2 as pb
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc
from services.learner.stages import CalledStages
from services.learner.traces import Traces

_HANGS = """
import asyncio, sys
import grpc
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc

class Hangs(rpc.VerifierServiceServicer):
    async def Verify(self, request, context):
        print("called", flush=True)
        await asyncio.sleep(3600)

async def main():
    server = grpc.aio.server()
    rpc.add_VerifierServiceServicer_to_server(Hangs(), server)
    server.add_insecure_port(sys.argv[1])
    await server.start()
    print("up", flush=True)
    await server.wait_for_termination()

asyncio.run(main())
"""


class Echo(rpc.VerifierServiceServicer):
    def __init__(self) -> None:
        self.num_calls = 0

    async def Verify(self, request: pb.VerifyRequest, context: object) -> pb.VerifyResponse:
        self.num_calls += 1
        return pb.VerifyResponse(group=request.group)


@contextlib.asynccontextmanager
async def serving(address: str):
    servicer = Echo()
    server = grpc.aio.server()
    rpc.add_VerifierServiceServicer_to_server(servicer, server)
    server.add_insecure_port(address)
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(0)


@contextlib.contextmanager
def hanging(address: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _HANGS, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def stages(address: str, *, timeout_s: float = 20.0) -> CalledStages:
    return CalledStages(Addresses(verifier=address), Traces("r"), timeout_s=timeout_s)


async def test_a_service_that_is_not_there_yet_is_waited_for(address):
    async with stages(address) as calls:
        verifying = asyncio.ensure_future(calls.verify(make_group()))
        await asyncio.sleep(3.0)  # longer than five attempts take
        assert not verifying.done()
        async with serving(address):
            assert (await verifying).group_id == make_group().group_id


async def test_a_call_whose_service_is_killed_is_made_again_once_it_is_back(address):
    async with stages(address) as calls:
        with hanging(address) as process:
            verifying = asyncio.ensure_future(calls.verify(make_group()))
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "called\n"
            process.send_signal(signal.SIGKILL)
            process.wait()
        await asyncio.sleep(3.0)
        assert not verifying.done()
        async with serving(address):
            assert (await verifying).group_id == make_group().group_id


async def test_nobody_is_waited_for_beyond_the_deadline(address):
    started = time.monotonic()
    async with stages(address, timeout_s=1.0) as calls:
        with pytest.raises(ServiceError, match="Verify: DEADLINE_EXCEEDED"):
            await calls.verify(make_group())
    assert time.monotonic() - started < 5.0


async def test_calls_go_to_every_replica_behind_a_name(address):
    other = f"127.0.0.1:{free_ports(1)[0]}"
    async with serving(address) as one, serving(other) as another:
        async with stages(f"ipv4:{address},{other}") as calls:
            for _ in range(40):
                await calls.verify(make_group())
        assert min(one.num_calls, another.num_calls) >= 10
