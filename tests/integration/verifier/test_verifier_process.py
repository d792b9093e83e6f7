import asyncio
import socket
import sys

import httpx
import pytest

from rlsd.serving.channel import open_channel, wait_until_serving
from rlsd.trajectory import VerifierSpec
from rlsd.wire.convert import spec_to_proto, verdict_from_proto
from rlsd.wire.v1 import verifier_service_pb2 as pb
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc


def _free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


async def _start(*arguments):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.verifier", *arguments),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def _ready(process):
    async for line in process.stderr:
        if b"service ready" in line:
            return
    pytest.fail("it ended before it was ready")


async def _is_refused(option, taken):
    process = await _start(option, taken)
    output, errors = await process.communicate()
    assert process.returncode == 78
    assert output == b""
    assert f"rlsd verifier: {option} {taken}: ".encode() in errors
    assert errors.endswith(b"choose another port\n")
    assert b"Traceback" not in errors


async def test_alone_it_serves_both_faces_until_it_is_told_to_stop():
    grpc_address, http_address = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    process = await _start("--bind", grpc_address, "--http", http_address)
    try:
        await _ready(process)
        await wait_until_serving(grpc_address, timeout_s=10)
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=5)) as client:
            response = await client.get(f"http://{http_address}/healthz")
        assert response.json() == {"status": "ok"}
        await asyncio.gather(
            _is_refused("--bind", grpc_address), _is_refused("--http", http_address)
        )
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("verifier.timout_s=1", b"verifier.timout_s: unknown key; did you mean 'timeout_s'?"),
        ("verifier.timeout_s=-1", b"verifier.timeout_s: input should be greater than 0, got -1"),
        ("verifier.kinds=['sorcery']", b"verifier.kinds: no kind sorcery; known: choice"),
        ("run.id=x", b"--set run: without --config only verifier.KEY=VALUE can be set"),
        ("verifier", b"--set 'verifier': write it as section.key=value"),
    ],
)
async def test_a_wrong_override_without_a_configuration_is_one_line(override, message):
    process = await _start("--set", override)
    output, errors = await process.communicate()
    assert (process.returncode, output) == (78, b"")
    assert message in errors
    assert b"Traceback" not in errors


async def test_alone_it_has_only_the_kinds_that_are_named_and_exist():
    address = f"127.0.0.1:{_free_port()}"
    process = await _start("--bind", address, "--only", "exact", "--only", "sorcery")
    try:
        await _ready(process)
        async with open_channel(address) as channel:
            stub = rpc.VerifierServiceStub(channel)
            found = []
            for kind in ("exact", "choice", "sorcery"):
                spec = spec_to_proto(VerifierSpec(kind=kind))
                request = pb.CheckRequest(verifier=spec, completion="4", reference="4")
                found.append((await stub.Check(request, timeout=10)).verdict)
    finally:
        process.terminate()
        await process.communicate()
    scored, *unknown = (verdict_from_proto(verdict) for verdict in found)
    assert scored.reward == 1.0
    assert [v.reason for v in unknown] == [
        "unknown verifier kind 'choice'; known: exact",
        "unknown verifier kind 'sorcery'; known: exact",
    ]
