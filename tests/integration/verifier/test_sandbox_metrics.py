"""What runs in the sandbox are counted as: by a real one, and by the checks that use it."""

from __future__ import annotations

import asyncio
import os

import pytest
from metric_values import Changes, is_there, value
from test_sandbox_proof import FOREIGN

from services.verifier.checks.code.runs import PROGRAM
from services.verifier.sandbox.choice import open_strongest
from services.verifier.sandbox.ending import Limits, RunResult
from services.verifier.sandbox.files import RunFiles

LIMITS = Limits(wall_s=1.0, memory_bytes=1 << 29, output_bytes=1 << 16)
SOURCES = {
    RunResult.OK: "print(1)",
    RunResult.FAILED: "1/0",
    RunResult.TIMEOUT: "while True: pass",
    RunResult.MEMORY: "x = bytearray(1 << 30)",
    RunResult.OUTPUT: "print('x' * (1 << 20))",
    RunResult.SIGNAL: "import ctypes\nctypes.string_at(0)",
}
if os.uname().machine == "x86_64":  # it calls the kernel as on i386
    SOURCES[RunResult.VIOLATION] = FOREIGN


async def _run(sandbox, source):
    with RunFiles({"source": source}) as files:
        async with sandbox.place():
            return await sandbox.run_beside(PROGRAM, files.descriptors, LIMITS)


async def test_each_end_of_a_run_is_counted_under_its_name():
    async with open_strongest((PROGRAM,), minimum="T2", max_runs=2) as chosen:
        tier = chosen.sandbox.tier.value
        for result in RunResult:
            assert is_there("rlsd_sandbox_runs_total", tier=tier, result=result.value)
        for expected, source in SOURCES.items():
            changes = Changes()
            await _run(chosen.sandbox, source)
            found = {r: changes("rlsd_sandbox_runs_total", tier=tier, result=r) for r in RunResult}
            assert {r for r, n in found.items() if n} == {expected}
            assert found[expected] == 1
            assert changes("rlsd_sandbox_run_duration_seconds_count", tier=tier) == 1


async def test_a_sandbox_that_dies_in_a_run_is_an_error_and_no_fault_of_the_run():
    async with open_strongest((PROGRAM,), minimum="T2", max_runs=2) as chosen:
        tier, changes = chosen.sandbox.tier.value, Changes()
        running = asyncio.create_task(_run(chosen.sandbox, "import time\ntime.sleep(9)"))
        await asyncio.sleep(0.3)
        chosen.sandbox._sandbox._lose("the sandbox died")
        with pytest.raises(Exception, match="the sandbox died"):
            await running
        assert changes("rlsd_sandbox_runs_total", tier=tier, result="error") == 1
        assert changes("rlsd_sandbox_run_duration_seconds_count", tier=tier) == 0


async def test_taken_places_are_shown_while_they_are_taken():
    async with open_strongest((PROGRAM,), minimum="T2", max_runs=3) as chosen:
        assert value("rlsd_sandbox_places", state="total") == 3
        runs = [
            asyncio.create_task(_run(chosen.sandbox, "import time\ntime.sleep(0.8)")) for _ in "12"
        ]
        await asyncio.sleep(0.2)
        assert value("rlsd_sandbox_places", state="busy") == 2
        await asyncio.gather(*runs)
        assert value("rlsd_sandbox_places", state="busy") == 0
