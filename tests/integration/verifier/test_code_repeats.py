"""Runs of the kind `code` that are spoilt from outside, and how long a check may take in all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from rlsd.trajectory import VerdictOutcome
from services.verifier.checks.code import runs, stdio
from services.verifier.checks.code.pair import SOLUTION, TESTS, PairRunner
from services.verifier.checks.code.params import CodeParams
from services.verifier.checks.code.runs import PROGRAM, Attempts
from services.verifier.checks.code.stdio import StdioRunner
from services.verifier.sandbox.client import Sandbox
from services.verifier.sandbox.ending import End, Ended, SandboxError
from services.verifier.sandbox.proof import proven
from services.verifier.sandbox.selftest import PROBE
from services.verifier.sandbox.tier import Tier

KILLS = 15
ENDED = Ended(end=End.EXITED, exit_code=0, cpu_s=0.01, wall_s=0.02, used_s=0.01, peak_bytes=0)
SLOW = "import time\ntime.sleep(0.4)\nprint(1)"


@contextlib.asynccontextmanager
async def _box():
    sandbox = Sandbox(Tier.T2, (PROBE, PROGRAM, SOLUTION, TESTS), max_runs=4)
    try:
        await sandbox.start()
        async with proven(sandbox) as kept:
            yield sandbox, kept
    finally:
        await sandbox.aclose()


async def _until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not come")


def _params(*outputs, **params):
    cases = [{"input": "", "output": output} for output in outputs]
    return CodeParams.model_validate({"tests": {"type": "stdio", "cases": cases}, **params})


def _asserts(code):
    return CodeParams.model_validate({"tests": {"type": "assert", "code": code}})


def _children(pid):
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in found]


async def _kill_runs(sandbox, number):
    while number:
        for pid in _children(sandbox.pid)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                number -= 1
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["program", "asserts"])
async def test_a_run_that_is_killed_again_and_again_has_its_verdict_once_it_is_left_alone(kind):
    async with _box() as (sandbox, kept):
        killing = asyncio.create_task(_kill_runs(sandbox, KILLS))
        if kind == "program":
            verdict = await StdioRunner(kept).verdict(_params("1"), SLOW)
        else:
            slow = "import time\ntime.sleep(0.4)\ndef f(): return 1"
            verdict = await PairRunner(kept).verdict(_asserts("assert f() == 1"), slow)
        assert killing.done()
        assert (verdict.outcome, verdict.reward) == (VerdictOutcome.SCORED, 1.0)


async def test_a_fork_server_that_dies_costs_none_of_its_runs_its_verdict():
    async with _box() as (sandbox, kept):
        runner = StdioRunner(kept)
        checks = [
            asyncio.create_task(runner.verdict(_params(output), SLOW)) for output in "1212121"
        ]
        for _ in range(3):
            await _until(lambda: _children(sandbox.pid))
            server = sandbox.pid
            os.kill(server, signal.SIGKILL)
            await _until(lambda server=server: sandbox.pid != server)
        verdicts = await asyncio.gather(*checks)
        assert [verdict.reward for verdict in verdicts] == [1, 0, 1, 0, 1, 0, 1]
        assert all(verdict.is_scored for verdict in verdicts)


async def test_attempts_end_with_the_patience_that_a_check_has_for_all_its_runs(monkeypatch):
    monkeypatch.setattr(runs, "_PATIENCE_S", 0.2)
    num = 0

    async def spoilt():
        nonlocal num
        num += 1
        raise SandboxError("killed")

    async with _box() as (_, kept):
        attempts = Attempts(kept)
        with pytest.raises(SandboxError, match="killed"):
            await attempts.repeated(spoilt)
        before = num
        assert before > 2
        with pytest.raises(SandboxError, match="killed"):
            await attempts.repeated(spoilt)
        assert num == before + 1


async def test_time_that_a_run_waits_for_a_place_uses_up_no_patience(monkeypatch):
    monkeypatch.setattr(runs, "_PATIENCE_S", 0.3)
    async with _box() as (_, kept):
        spoils = [SandboxError("killed")] * 3

        async def attempt():
            if spoils:
                raise spoils.pop()
            return 1

        async def hold():
            async with kept.place():
                await asyncio.sleep(0.4)

        holders = [asyncio.create_task(hold()) for _ in range(8)]
        await asyncio.sleep(0)
        assert await Attempts(kept).repeated(attempt) == 1
        await asyncio.gather(*holders)


async def test_cases_that_take_too_long_together_are_the_programs_own_fault():
    async with _box() as (_, kept):
        runner = StdioRunner(kept)
        busy = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
        for program in (f"{busy}\nprint(1)", "import time\ntime.sleep(0.5)\nprint(1)"):
            limits = {"time_limit_s": 2.0, "total_time_limit_s": 1.4}
            verdict = await runner.verdict(_params(*"1111", **limits), program)
            assert (verdict.outcome, verdict.reward) == (VerdictOutcome.SCORED, 0.0)
            # The third on an idle machine.
            assert re.fullmatch(r"case \d of 4: time limit of all cases \(1.4 s\)", verdict.reason)


def test_without_a_limit_of_its_own_a_program_has_ten_runs_in_all():
    assert _params("1").total_s == 50.0
    assert _params("1", time_limit_s=100.0).total_s == 600.0
    assert _params("1", time_limit_s=100.0, total_time_limit_s=7.0).total_s == 7.0


class Machine:
    """A sandbox whose runs all end well, with the times given."""

    tier = Tier.T2

    def __init__(self, **times):
        self.ended = replace(ENDED, **times)
        self.places = asyncio.Semaphore()

    def place(self):
        return self.places

    async def run_beside(self, _job, descriptors, _limits):
        os.write(descriptors[2], b"1\n")
        return self.ended


async def test_a_machine_that_is_too_busy_to_tell_is_a_timeout_and_no_reward(monkeypatch):
    monkeypatch.setattr(stdio, "_BUSY_GRACE_S", 1.0)
    params = _params(*["1"] * 100, time_limit_s=1.0)
    verdict = await StdioRunner(Machine(used_s=0.01, wall_s=3.0)).verdict(params, "print(1)")
    assert verdict.outcome is VerdictOutcome.TIMEOUT
    assert verdict.reason == "the machine is too busy: 14 of 100 cases in 42 s"
    verdict = await StdioRunner(Machine(used_s=0.01, wall_s=0.2)).verdict(params, "print(1)")
    assert verdict.reward == 1.0


async def test_a_run_that_waits_for_a_processor_has_not_used_that_time():
    """Eight busy runs on fewer processors: each used about its own share."""
    async with _box() as (sandbox, kept):
        source = "x = sum(range(6_000_000))\nprint(1)"
        ends = []
        real = kept.run_beside

        async def noted(*order):
            ends.append(await real(*order))
            return ends[-1]

        kept.run_beside = noted
        runner = StdioRunner(kept)
        await asyncio.gather(*(runner.verdict(_params("1"), source) for _ in range(4)))
        assert sandbox.generation == 1
        for ended in ends:
            assert ended.cpu_s * 0.9 <= ended.used_s <= ended.wall_s
        own = min(ended.cpu_s for ended in ends)
        assert min(ended.used_s for ended in ends) < own + 0.1
