import asyncio
import os
import signal
import sys
import time

import pytest

from rlsd.errors import ServiceError
from rlsd.local.processes import Child, child_environment, free_ports
from rlsd.local.verifier import LocalVerifier, ServiceGone
from rlsd.wire.v1 import verifier_service_pb2 as pb

STAND_IN = """
import asyncio, os, sys
import grpc
from rlsd.serving.lifecycle import ServerConfig, serve
from rlsd.wire.v1 import verifier_service_pb2 as pb, verifier_service_pb2_grpc as rpc

class Service(rpc.VerifierServiceServicer):
    async def Check(self, request, context):
        if request.completion == "die":
            os._exit(3)
        if request.completion == "refuse":
            await context.abort(grpc.StatusCode.INTERNAL, "no")
        if request.completion == "hang":
            await asyncio.sleep(1000)
        await asyncio.sleep(0.05)
        return pb.CheckResponse(verdict={"outcome": 1, "reward": 1.0, "reason": str(os.getpid())})

def register(server):
    rpc.add_VerifierServiceServicer_to_server(Service(), server)
    return pb.DESCRIPTOR.services_by_name["VerifierService"].full_name

asyncio.run(serve(ServerConfig(bind=sys.argv[1], drain_s=0.1), register))
"""


@pytest.fixture
async def verifier(tmp_path):
    address = f"127.0.0.1:{free_ports(1)[0]}"
    child = Child(
        name="verifier",
        command=[sys.executable, "-c", STAND_IN, address],
        environment=child_environment(threads=1),
        log_path=tmp_path / "log",
    )
    opened = LocalVerifier(child, address, timeout_s=1.0)
    await opened.start()
    yield opened
    await opened.aclose()


async def _check(verifier, completion):
    try:
        return (await verifier.check(pb.CheckRequest(completion=completion))).reason
    except ServiceError as error:
        return error


async def test_a_check_that_kills_the_service_is_the_only_one_without_a_verdict(verifier):
    words = [*["fine"] * 10, "die", *["fine"] * 10]
    found = await asyncio.gather(*(_check(verifier, word) for word in words))
    assert str(found.pop(10)) == "the verifier service died twice in the middle of it"
    assert all(isinstance(pid, str) for pid in found)


async def test_a_service_that_does_not_answer_is_ended_and_the_others_are_asked_again(verifier):
    started = time.monotonic()
    hung, before, after = await asyncio.gather(
        *(_check(verifier, word) for word in ("hang", "fine", "fine"))
    )
    assert isinstance(hung, ServiceError)
    assert before == after
    assert 2.0 < time.monotonic() - started < 20
    assert await _check(verifier, "fine") not in (before, hung)


async def test_a_refused_call_is_an_error_and_ends_nothing(verifier):
    before = await _check(verifier, "fine")
    assert str(await _check(verifier, "refuse")) == "INTERNAL: no"
    assert await _check(verifier, "fine") == before


@pytest.mark.slow
async def test_a_service_that_never_stops_dying_is_given_up(verifier):
    found = [await _check(verifier, "die") for _ in range(7)]
    assert isinstance(found[-1], ServiceGone)
    started = time.monotonic()
    assert isinstance(await _check(verifier, "fine"), ServiceGone)
    assert time.monotonic() - started < 0.1


async def test_a_service_that_does_not_start_says_why_at_once(tmp_path):
    words = "import sys; sys.exit('rlsd verifier: no sandbox')"
    child = Child(
        name="verifier",
        command=[sys.executable, "-c", words],
        environment={},
        log_path=tmp_path / "log",
    )
    started = time.monotonic()
    with pytest.raises(ServiceGone, match="ended: rlsd verifier: no sandbox"):
        await LocalVerifier(child, "127.0.0.1:1").start()
    assert time.monotonic() - started < 10


@pytest.mark.slow
async def test_a_stopped_service_is_killed_and_replaced(verifier):
    pid = int(await _check(verifier, "fine"))

    os.kill(pid, signal.SIGSTOP)
    assert int(await _check(verifier, "fine")) != pid
