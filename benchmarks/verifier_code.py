"""Isolated Python runs per second: `python benchmarks/verifier_code.py` prints one JSON object.

Ours is `Verifier.check` with one case of standard input, from the completion to the verdict, eight
at once: a fresh confined process for each. `pair` is the same with asserts, two processes for each.
The floor is a bare fork of a warm interpreter that runs the same program, confined by nothing, two
at once; the peer is `python -I -S -c`, which is what a sandbox without a fork server pays before it
confines anything. Rounds alternate, so that what else the machine does falls on all alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rlsd.config import VerifierSection
from rlsd.trajectory import VerifierSpec
from services.verifier.core import Verifier, open_verifier

_REPEATS = 5
_ROUND_S = 2.0
_CONCURRENCY = 8
_WORKERS = 2

PROGRAM = "n = int(input())\nprint(sum(map(int, input().split())))"
COMPLETION = f"```python\n{PROGRAM}\n```"
STDIO = VerifierSpec(
    kind="code",
    params={"tests": {"type": "stdio", "cases": [{"input": "3\n1 2 3\n", "output": "6\n"}]}},
)
FUNCTION = "```python\ndef double(x):\n    return 2 * x\n```"
ASSERTS = VerifierSpec(
    kind="code",
    params={
        "tests": {
            "type": "assert",
            "entry_point": "double",
            "code": "def check(candidate):\n"
            "    assert candidate(1) == 2\n    assert candidate(4) == 8\n",
        }
    },
)


@dataclass(slots=True)
class Round:
    """What one round measured."""

    rate: float = 0.0
    latencies_s: list[float] = field(default_factory=list)


async def _ours(verifier: Verifier, spec: VerifierSpec, completion: str) -> Round:
    found = Round()
    end = time.perf_counter() + _ROUND_S

    async def asking() -> None:
        while time.perf_counter() < end:
            started = time.perf_counter()
            verdict = await verifier.check(spec, completion, "")
            assert verdict.reward == 1.0, verdict
            found.latencies_s.append(time.perf_counter() - started)

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_CONCURRENCY):
            tasks.create_task(asking())
    found.rate = len(found.latencies_s) / (time.perf_counter() - started)
    return found


def _floor() -> Round:
    """Forks of this process, each of which runs the program and ends; two at once."""
    done = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _ROUND_S:
        pids = [_forked() for _ in range(_WORKERS)]
        for pid in pids:
            os.waitpid(pid, 0)
        done += len(pids)
    return Round(rate=done / elapsed)


def _forked() -> int:
    pid = os.fork()
    if pid == 0:
        try:
            exec(compile(PROGRAM, "program", "exec"), {"input": "3 4".strip, "print": len})
        finally:
            os._exit(0)
    return pid


def _peer() -> Round:
    """A new interpreter for each run, two at once."""
    end = time.perf_counter() + _ROUND_S

    def running(_: int) -> int:
        done = 0
        while time.perf_counter() < end:
            subprocess.run(
                [sys.executable, "-I", "-S", "-c", PROGRAM],
                input=b"3\n1 2 3\n",
                stdout=subprocess.PIPE,
                check=True,
            )
            done += 1
        return done

    started = time.perf_counter()
    with ThreadPoolExecutor(_WORKERS) as pool:
        done = sum(pool.map(running, range(_WORKERS)))
    return Round(rate=done / (time.perf_counter() - started))


async def _measure(verifier: Verifier) -> dict[str, list[Round]]:
    rounds: dict[str, list[Round]] = {}
    for number in range(_REPEATS + 1):
        measured = {
            "stdio": await _ours(verifier, STDIO, COMPLETION),
            "pair": await _ours(verifier, ASSERTS, FUNCTION),
            "floor_fork": _floor(),
            "peer_python_c": _peer(),
        }
        if number:  # the first round warms up
            for name, found in measured.items():
                rounds.setdefault(name, []).append(found)
    return rounds


def _figures(rounds: list[Round]) -> dict[str, float]:
    rates = [found.rate for found in rounds]
    figures: dict[str, float] = {
        "median": round(statistics.median(rates)),
        "min": round(min(rates)),
        "max": round(max(rates)),
    }
    if latencies := [latency for found in rounds for latency in found.latencies_s]:
        figures["p95_ms"] = round(1000 * statistics.quantiles(latencies, n=20)[-1], 2)
    return figures


async def main() -> None:
    """Measure and print."""
    section = VerifierSection(kinds=("code",), workers=_WORKERS)
    async with open_verifier(section) as verifier:
        rounds = await _measure(verifier)
        isolation = verifier.isolation
    report = {
        "unit": "checks/s",
        "isolation": isolation,
        "concurrency": _CONCURRENCY,
        "workers": _WORKERS,
        "repeats": _REPEATS,
        "checks": {name: _figures(found) for name, found in rounds.items()},
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    json.dump(report, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    asyncio.run(main())
