"""What many outstanding verifications over HTTP cost.

    python benchmarks/verifier_http.py

Prints one JSON object. The server answers after 1 s, so the wall time of N checks that are all
outstanding at once is 1 s and what the client needs for N requests. Server and client are
processes of their own, and so is each N: a peak of memory is that of its N alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time

from rlsd.config import VerifierSection
from rlsd.trajectory import VerifierSpec
from services.verifier.core import open_verifier

OUTSTANDING = (1, 250, 500, 1000, 2000)
DELAY_S = 1.0
_ANSWER = b'{"outcome":"scored","score":1.0}'


async def serve() -> None:
    """Answer every request after a second; the first line of output is the port."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
        await asyncio.sleep(DELAY_S)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_ANSWER) + _ANSWER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def ask(port: int, outstanding: int) -> dict[str, float]:
    """Wall time, CPU time and peak memory of that many checks at once through the service."""
    outside = {
        "url": f"http://127.0.0.1:{port}/v1/verify",
        "allow_cidrs": ["127.0.0.0/8"],
        "max_concurrency": outstanding,
        "connect_timeout_s": 10,
    }
    section = VerifierSection(kinds=("http",), http={"outside": outside})
    spec = VerifierSpec(kind="http", params={"verifier": "outside"})
    async with open_verifier(section) as verifier:
        await verifier.check(spec, "warm", "")
        memory_before = _peak_mib()
        started, cpu_before = time.perf_counter(), time.process_time()
        verdicts = await asyncio.gather(
            *(verifier.check(spec, f"completion {n}", "") for n in range(outstanding))
        )
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_before
    return {
        "outstanding": outstanding,
        "scored": sum(v.is_scored for v in verdicts),
        "wall_s": round(wall_s, 3),
        "cpu_s": round(cpu_s, 3),
        "cpu_ms_per_check": round(1000 * cpu_s / outstanding, 3),
        "peak_rss_mib": round(_peak_mib(), 1),
        "rss_before_mib": round(memory_before, 1),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure each number of outstanding checks in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))
    if arguments.serve:
        asyncio.run(serve())
        return
    if arguments.ask:
        print(json.dumps(asyncio.run(ask(*arguments.ask))))
        return
    command = [sys.executable, __file__]
    server = subprocess.Popen([*command, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        rows = [
            json.loads(subprocess.check_output([*command, "--ask", port, str(n)]))
            for n in OUTSTANDING
        ]
    finally:
        server.kill()
        server.wait()
    print(json.dumps({"server_delay_s": DELAY_S, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
