"""`python -m tests.chaos.faulty_verifier`: the chain task's check over HTTP, which fails at will.

`POST /SHARE` (percent) decides by the trajectory's id whether it answers, so a check that is
repeated meets the same fate and the audit knows whom it hit.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from enum import StrEnum

_TOO_LARGE = b" " * 10 * 1024 * 1024


class Fault(StrEnum):
    """What a verifier may do instead of answering."""

    STATUS_500 = "500"
    HANG = "hang"
    TEN_MEGABYTES = "10 MB"
    MALFORMED = "malformed JSON"
    NAN = "NaN"


def fault_of(trajectory_id: str, percent: int) -> Fault | None:
    """The fault that a trajectory's check meets, the same on every attempt."""
    number = int.from_bytes(hashlib.sha256(trajectory_id.encode()).digest()[:8], "big")
    if number % 100 >= percent:
        return None
    return list(Fault)[number // 100 % len(Fault)]


def reward_of(completion: str, reference: str) -> float:
    """1 when the text after the first `#` is the reference."""
    _, marker, answer = completion.partition("#")
    return float(bool(marker) and answer.strip() == reference.strip())


async def _serve(port: int) -> None:
    server = await asyncio.start_server(_converse, "127.0.0.1", port, limit=2**21)
    async with server:
        await server.serve_forever()


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Requests of one connection, one after the other."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = dict(
                line.lower().split(": ", 1) for line in head.splitlines()[1:] if ": " in line
            )
            request = json.loads(await reader.readexactly(int(headers["content-length"])))
            percent = int(head.split()[1].strip("/"))
            fault = fault_of(request["trajectory_id"], percent)
            if fault is Fault.HANG:
                await reader.read()  # until the caller has had enough
                return
            score = reward_of(request["completion"], request["reference"])
            writer.write(answer_to(score, fault))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def answer_to(score: float, fault: Fault | None) -> bytes:
    """A whole HTTP answer: the score, or what a fault makes of it."""
    right = json.dumps({"outcome": "scored", "score": score}).encode()
    body = {
        Fault.TEN_MEGABYTES: right + _TOO_LARGE,
        Fault.MALFORMED: right[:-2],
        Fault.NAN: b'{"outcome": "scored", "score": NaN}',
    }.get(fault, right)
    status = "500 Broken" if fault is Fault.STATUS_500 else "200 OK"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def main() -> None:
    """Parse and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.faulty_verifier")
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
