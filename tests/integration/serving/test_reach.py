"""What `helm test` asks: who serves, and who can be reached."""

import asyncio
import sys
from collections import Counter

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from rlsd.errors import ConfigError, ServiceError, StreamError
from rlsd.serving.channel import open_channel
from rlsd.serving.reach import api_server, closed, main, queues, serving
from rlsd.streams.embedded import embedded_redis


class Counting(HealthServicer):
    """Health that notes which replica was asked."""

    def __init__(self, asked, name):
        super().__init__()
        self._asked, self._name = asked, name

    async def Check(self, request, context):
        self._asked[self._name] += 1
        return await super().Check(request, context)


@pytest.fixture
async def replicas():
    """Addresses of two servers that serve, and how often each was asked."""
    asked, servers, addresses = Counter(), [], []
    for name in ("a", "b"):
        server = grpc.aio.server()
        health = Counting(asked, name)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        await health.set("", health_pb2.HealthCheckResponse.SERVING)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        servers.append(server)
    yield addresses, asked
    for server in servers:
        await server.stop(0)


async def test_replicas_behind_one_name_take_turns(replicas):
    addresses, asked = replicas
    async with open_channel("ipv4:" + ",".join(addresses)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=10)
        await asyncio.sleep(0.2)  # until both are connected
        for _ in range(10):
            await health.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert min(asked["a"], asked["b"]) >= 4


async def test_what_serves_is_serving_and_not_closed(replicas, monkeypatch):
    addresses, _ = replicas
    await serving(addresses)
    monkeypatch.setattr("rlsd.serving.reach._CLOSING_S", 1.5)
    expected = rf"{addresses[1]} can be reached after 2 s; have a CNI"
    with pytest.raises(ServiceError, match=expected):
        await closed(["127.0.0.1:1", addresses[1]])


async def test_what_is_closed_a_little_after_the_pods_start_is_closed():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    looking = asyncio.create_task(closed([f"127.0.0.1:{port}"]))
    await asyncio.sleep(0.3)
    assert not looking.done()
    server.close()
    await asyncio.wait_for(looking, timeout=10)


async def test_where_nobody_accepts_is_closed_and_not_serving(monkeypatch):
    await closed(["127.0.0.1:1", "no-such-name.invalid:80"])
    monkeypatch.setattr("rlsd.serving.reach._SERVING_S", 0.5)
    with pytest.raises(ServiceError, match=r"127.0.0.1:1: not serving within 0.5 s"):
        await serving(["127.0.0.1:1"])


async def test_an_address_without_a_port_is_not_closed_but_wrong():
    with pytest.raises(ConfigError, match="write it as host:port"):
        await closed(["example.com"])


async def test_queues_are_reached_where_redis_answers():
    async with embedded_redis() as url:
        await queues(url)
    with pytest.raises(StreamError, match="Redis"):
        await queues(url)


def test_the_api_server_is_where_the_pod_is_told():
    told = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert api_server(told) == "10.0.0.1:443"


async def test_the_command_says_what_is_wrong_and_fails():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rlsd.serving.reach", "closed", "nowhere"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert (
        errors.decode() == "rlsd: address 'nowhere': write it as host:port, the port below 65536\n"
    )


@pytest.mark.parametrize("is_first", [True, False])
def test_the_api_server_is_looked_at_wherever_the_option_stands(monkeypatch, is_first):
    looked = []

    async def look(addresses):
        looked.extend(addresses)

    option, address = ["--api-server"], ["127.0.0.1:1"]
    words = [*option, *address] if is_first else [*address, *option]
    monkeypatch.setattr("rlsd.serving.reach.closed", look)
    monkeypatch.setattr("rlsd.serving.reach.api_server", lambda: "10.0.0.1:443")
    monkeypatch.setattr(sys, "argv", ["reach", "closed", *words])
    main()
    assert looked == ["127.0.0.1:1", "10.0.0.1:443"]
