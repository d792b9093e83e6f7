"""A verifier service says which outside verifier its checks wait for, and why."""

import asyncio
import json
import sys

import httpx
from hostile_http import hostile_server, scoring

from rlsd.cli.why import ask, ask_all
from rlsd.local.addresses import RunAddresses
from rlsd.local.processes import free_ports
from rlsd.serving.channel import open_channel, wait_until_serving
from rlsd.trajectory import VerifierSpec
from rlsd.wire.convert import spec_to_proto
from rlsd.wire.v1 import verifier_service_pb2 as pb
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc


def settings(name, url, **more):
    values = {"url": url, "allow_cidrs": ["127.0.0.0/8"], **more}
    return [
        part
        for key, value in values.items()
        for part in ("--set", f"verifier.http.{name}.{key}={json.dumps(value)}")
    ]


async def checks(stub, name, count):
    spec = spec_to_proto(VerifierSpec(kind="http", params={"verifier": name}))
    request = pb.CheckRequest(verifier=spec, completion="4", reference="4")
    return [asyncio.ensure_future(stub.Check(request, timeout=100)) for _ in range(count)]


async def says(address, *words, within_s=40):
    line = None
    try:
        async with asyncio.timeout(within_s):
            while line is None or not all(w in line.says for w in words):
                await asyncio.sleep(0.1)
                line = await ask("verifier", address)
    except TimeoutError:
        raise AssertionError(f"{words!r} is not in {line.says!r}") from None
    return line


async def test_why_and_readyz_name_the_verifier_that_is_waited_for(tmp_path):
    canary_file = tmp_path / "canary.jsonl"
    canary_file.write_text(
        '{"response": "4", "reference": "4", "expect": {"passed": true}}\n'
        '{"response": "5", "reference": "4", "expect": {"passed": false}}\n'
    )
    port, metrics_port, closed_port = free_ports(3)
    address = f"127.0.0.1:{port}"
    async with hostile_server(scoring(1)) as yes:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.verifier", "--only", "http", "--bind", address),
            *("--metrics", f"127.0.0.1:{metrics_port}"),
            *settings("away", f"http://127.0.0.1:{closed_port}/"),
            *settings("agreeable", yes.url, canary_file=str(canary_file)),
            stderr=asyncio.subprocess.DEVNULL,
        )
        pending = []
        try:
            await wait_until_serving(address, timeout_s=60)
            async with open_channel(address) as channel:
                stub = rpc.VerifierServiceStub(channel)
                pending += await checks(stub, "away", 8)
                line = await says(address, "'away'")
                # One may have been given up before the circuit opened.
                num_left = 8 - sum(check.done() for check in pending)
                assert num_left >= 7
                line = await says(address, f"; {num_left} in hand")
                assert line.says.startswith("waiting ")
                assert "s for the verifier 'away': its circuit is open (not reached: " in line.says
                assert str(closed_port) in line.says
                assert line.is_well

                pending += await checks(stub, "agreeable", 2)
                line = await says(address, "'agreeable'")
                both = f"; {num_left} in hand; the verifier 'agreeable': it is not believed ("
                assert both in line.says
                assert "canary 2, known to be wrong, got reward 1); 2 in hand" in line.says
                known = RunAddresses(run_id="", services={"verifier": address}, redis_url=None)
                assert [found.who for found in await ask_all(known)] == ["verifier"]

                url = f"http://127.0.0.1:{metrics_port}"
                async with httpx.AsyncClient(base_url=url) as client:
                    ready = await client.get("/readyz")
                    alive = await client.get("/livez")
                    metrics = (await client.get("/metrics")).text
                assert ready.status_code == 200  # its other verifiers and kinds do their work
                assert ready.text == (
                    "ready: verifier 'agreeable' is not believed: "
                    "canary 2, known to be wrong, got reward 1\n"
                )
                assert (alive.status_code, "'agreeable'" in alive.text) == (200, True)
                assert 'rlsd_verifier_http_canary_state{verifier="agreeable"} 2.0' in metrics
                assert sum(check.done() for check in pending) == 8 - num_left
                for check in pending:
                    check.cancel()
                await asyncio.gather(*pending, return_exceptions=True)
                await says(address, "s for calls", within_s=20)
        finally:
            process.terminate()
            await process.communicate()
