"""A call whose server is stopped, or gives it up, is answered by another replica."""

import asyncio

import grpc
import pytest

from rlsd.serving.channel import open_channel
from rlsd.wire.v1 import rollout_service_pb2, rollout_service_pb2_grpc


class Replica(rollout_service_pb2_grpc.RolloutServiceServicer):
    """Answers once it is released; remembers how often it was asked."""

    def __init__(self):
        self.asked = asyncio.Event()
        self.times = 0
        self.released = asyncio.Event()
        self.gives_up = False

    async def Generate(self, request, context):
        self.times += 1
        self.asked.set()
        await self.released.wait()
        if self.gives_up:
            await context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")
        return rollout_service_pb2.GenerateResponse(group=request.group)


async def replica():
    server, servicer = grpc.aio.server(options=[("grpc.so_reuseport", 0)]), Replica()
    rollout_service_pb2_grpc.add_RolloutServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, servicer, f"127.0.0.1:{port}"


@pytest.mark.parametrize("how", ["stopped", "given up"])
async def test_a_call_that_a_server_does_not_finish_is_made_again_elsewhere(how):
    (first, slow, at), (second, other, elsewhere) = await replica(), await replica()
    servers = {slow: first, other: second}
    async with open_channel(f"ipv4:{at},{elsewhere}") as channel:
        stub = rollout_service_pb2_grpc.RolloutServiceStub(channel)
        request = rollout_service_pb2.GenerateRequest()
        call = asyncio.ensure_future(stub.Generate(request, timeout=20, wait_for_ready=True))
        waits = {asyncio.create_task(x.asked.wait()): x for x in servers}
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        asked = waits[done.pop()]
        [heir] = servers.keys() - {asked}
        heir.released.set()
        if how == "given up":
            asked.gives_up = True
            asked.released.set()
        else:
            await servers[asked].stop(0.1)
        await call
        assert heir.times == 1
    for server in servers.values():
        await server.stop(0)
