"""`rlsd verify`: verdicts for the lines of a file, from a real verifier service."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from rlsd.errors import ConfigError
from rlsd.local.processes import Child, child_environment, free_ports, service_command
from rlsd.serving.channel import calling, open_channel, wait_until_serving
from rlsd.trajectory import VerifierSpec
from rlsd.wire.convert import spec_to_proto, verdict_from_proto
from rlsd.wire.v1 import verifier_service_pb2, verifier_service_pb2_grpc


def verify_command(file: Path) -> None:
    """Print one JSON object a line: the input's number, the outcome, the reward, the reason."""
    asyncio.run(_verify(_read(file)))


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(f"{file}: cannot be read ({cause})") from cause
    items = []
    for number, line in enumerate(lines, start=1):
        try:
            item = json.loads(line)
            missing = {"kind", "response", "reference"} - set(item)
        except (ValueError, TypeError) as cause:
            raise ConfigError(f"{file}:{number}: not a JSON object ({cause})") from cause
        if missing:
            raise ConfigError(f"{file}:{number}: lacks {', '.join(sorted(missing))}")
        items.append(item)
    return items


async def _verify(items: list[dict[str, Any]]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    grpc_port, http_port = free_ports(2)
    address = f"127.0.0.1:{grpc_port}"
    with tempfile.TemporaryDirectory() as folder:
        child = Child(
            name="verifier",
            command=[
                *service_command("verifier"),
                f"--bind={address}",
                f"--http=127.0.0.1:{http_port}",
            ],
            environment=child_environment(threads=1),
            log_path=Path(folder) / "verifier.log",
        )
        await child.start()
        try:
            await wait_until_serving(address, timeout_s=60)
            async with open_channel(address) as channel:
                stub = verifier_service_pb2_grpc.VerifierServiceStub(channel)
                for number, item in enumerate(items, start=1):
                    console.print(json.dumps({"line": number, **await _check(stub, item)}))
        finally:
            await child.stop()


async def _check(
    stub: verifier_service_pb2_grpc.VerifierServiceAsyncStub, item: dict[str, Any]
) -> dict[str, Any]:
    spec = VerifierSpec(kind=item["kind"], params=item.get("params") or {})
    request = verifier_service_pb2.CheckRequest(
        verifier=spec_to_proto(spec),
        completion=str(item["response"]),
        reference=str(item["reference"]),
    )
    async with calling("verifier.Check"):
        response = await stub.Check(request, timeout=60)
    verdict = verdict_from_proto(response.verdict)
    reward = verdict.reward if verdict.is_scored else None
    return {"outcome": verdict.outcome.value, "reward": reward, "reason": verdict.reason}
