import asyncio
import os
import signal
import socket

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from rlsd.errors import ConfigError, ServiceError, TeacherError
from rlsd.serving.channel import calling, open_channel, wait_until_serving
from rlsd.serving.lifecycle import ServerConfig, serve
from rlsd.wire.v1 import teacher_service_pb2 as pb
from rlsd.wire.v1 import teacher_service_pb2_grpc as rpc


class Teacher(rpc.TeacherServiceServicer):
    def __init__(self, score=None):
        self._score = score

    async def Score(self, request, context):
        return await self._score()

    async def GetStatus(self, request, context):
        return pb.TeacherServiceGetStatusResponse(run_id="run", teacher_version=7)


def registering(servicer):
    def register(server):
        rpc.add_TeacherServiceServicer_to_server(servicer, server)
        return "rlsd.wire.v1.TeacherService"

    return register


class Running:
    """A server in this loop, on a port of its own."""

    def __init__(self, servicer, background=()):
        self.port = asyncio.get_running_loop().create_future()
        self.task = asyncio.ensure_future(
            serve(
                ServerConfig(drain_s=5),
                registering(servicer),
                background,
                on_ready=self.port.set_result,
            )
        )

    async def address(self):
        await asyncio.wait({self.port, self.task}, return_when=asyncio.FIRST_COMPLETED)
        return f"127.0.0.1:{self.port.result()}"


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


async def test_health_and_reflection_answer_on_every_server():
    running = Running(Teacher())
    address = await running.address()
    await wait_until_serving(address, timeout_s=5)
    async with open_channel(address) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="rlsd.wire.v1.TeacherService")
        )
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        names = [
            s.name
            async for r in stub.ServerReflectionInfo(iter([request]))
            for s in r.list_services_response.service
        ]
    terminate()
    await running.task
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert "rlsd.wire.v1.TeacherService" in names


async def test_a_call_in_flight_finishes_after_sigterm():
    entered, leave = asyncio.Event(), asyncio.Event()

    async def score():
        entered.set()
        await leave.wait()
        return pb.ScoreResponse()

    running = Running(Teacher(score))
    async with open_channel(await running.address()) as channel:
        call = rpc.TeacherServiceStub(channel).Score(pb.ScoreRequest(), timeout=10)
        await entered.wait()
        terminate()
        await asyncio.sleep(0.05)
        leave.set()
        assert isinstance(await call, pb.ScoreResponse)
    await running.task


async def test_our_error_reaches_the_caller_with_its_status_and_line():
    async def score():
        raise TeacherError("group g1: has no prompt ids")

    running = Running(Teacher(score))
    async with open_channel(await running.address()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.TeacherServiceStub(channel).Score(pb.ScoreRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert caught.value.details() == "group g1: has no prompt ids"
        with pytest.raises(ServiceError, match=r"teacher\.Score: INTERNAL: group g1"):
            async with calling("teacher.Score"):
                await rpc.TeacherServiceStub(channel).Score(pb.ScoreRequest(), timeout=5)
    terminate()
    await running.task


async def test_a_crash_in_a_loop_ends_the_service_and_is_not_swallowed():
    async def loop(stopping):
        raise RuntimeError("broken invariant")

    running = Running(Teacher(), [loop])
    with pytest.raises(ExceptionGroup) as caught:
        await running.task
    assert caught.group_contains(RuntimeError, match="broken invariant")


async def test_a_loop_that_is_done_ends_the_service():
    async def loop(stopping):
        return None

    running = Running(Teacher(), [loop])
    await asyncio.wait_for(running.task, 5)


async def test_a_port_in_use_is_said_in_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"--bind {bind}: the address is in use"):
            await serve(ServerConfig(bind=bind), registering(Teacher()))


async def test_a_service_that_is_not_there_is_said_in_one_line():
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:1: not serving within 0\.2 s"):
        await wait_until_serving("127.0.0.1:1", timeout_s=0.2)
