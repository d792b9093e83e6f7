import asyncio
import socket
import sys

import httpx
import pytest

from rlsd.serving.channel import wait_until_serving


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
    assert process.returncode == 1
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


async def test_an_override_without_a_configuration_is_wrong_usage():
    process = await _start("--set", "verifier.timeout_s=1")
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"--set overrides a value of --config; give that too" in errors
