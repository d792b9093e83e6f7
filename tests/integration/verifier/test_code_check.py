"""The kind `code` through the whole verifier: verdicts, their words, and whose fault it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
import pytest_asyncio

from rlsd.config import VerifierSection
from rlsd.trajectory import VerdictOutcome, VerifierSpec
from services.verifier.core import open_verifier

pytestmark = pytest.mark.asyncio(loop_scope="module")

CORPUS = Path(__file__).parents[2] / "corpus" / "code.jsonl"
EQUAL_TO_ALL = "class E:\n  def __eq__(self, other): return True\ndef f(x): return E()"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def code():
    async with open_verifier(VerifierSection(kinds=("code",), workers=2)) as verifier:
        yield verifier


def _stdio(*cases, **params):
    tests = {"type": "stdio", "cases": [{"input": i, "output": o} for i, o in cases]}
    return VerifierSpec(kind="code", params={"tests": tests, **params})


def _asserts(text, entry_point="f", **params):
    tests = {"type": "assert", "code": text, "entry_point": entry_point}
    return VerifierSpec(kind="code", params={"tests": tests, **params})


async def test_every_verdict_names_tier_and_policy(code):
    verdict = await code.check(_stdio(("2\n", "4")), "```python\nprint(2 * int(input()))\n```", "")
    assert (verdict.reward, verdict.reason) == (1.0, "1 cases")
    assert verdict.isolation == code.isolation
    assert verdict.isolation[:3] in ("T1/", "T2/")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print(5)", "case 1 of 2: another output"),
        ("print(4)", "case 2 of 2: another output"),
        ("1/0", "case 1 of 2: exit code 1: ZeroDivisionError: division by zero"),
        ("while True: pass", "case 1 of 2: time limit"),
        ("while True: print('x' * 99999)", "case 1 of 2: output limit"),
        ("x = bytearray(1 << 40)", "case 1 of 2: memory limit"),
        ("import os\nos.abort()", "case 1 of 2: signal 11"),
        ("print(", "case 1 of 2: exit code 1: SyntaxError: '(' was never closed"),
    ],
)
async def test_what_a_program_does_wrong_costs_it_the_reward_and_is_named(code, program, reason):
    spec = _stdio(("2\n", "4"), ("3\n", "6"), time_limit_s=0.5)
    verdict = await code.check(spec, program, "")
    assert (verdict.outcome, verdict.reward) == (VerdictOutcome.SCORED, 0.0)
    assert verdict.reason.startswith(reason)


@pytest.mark.parametrize(
    ("program", "text", "reason"),
    [
        ("def f(x): return 2 * x", "assert f(2) == 4", "all tests"),
        ("def f(x): return x", "assert f(2) == 4", "AssertionError: assert f(2) == 4"),
        (EQUAL_TO_ALL, "assert f(2) == 4", "AssertionError: assert f(2) == 4"),
        ("import os\ndef f(x): os._exit(0)", "assert f(2) == 4", "the solution ended its process"),
        ("import sys\ndef f(x): sys.exit(0)", "assert f(2) == 4", "SolutionLeft"),
        ("def g(x): return 4", "assert f(2) == 4", "no f in the answer"),
        ("def f(x):\n  while True: pass", "assert f(2) == 4", "time limit"),
        (
            "def f(x): return x",
            "for i in range(f(0)):\n  assert f(2) == 4",
            "no assert was reached",
        ),
    ],
)
async def test_asserts_run_in_another_process_than_the_solution(code, program, text, reason):
    verdict = await code.check(_asserts(text, time_limit_s=0.5), program, "")
    assert verdict.outcome is VerdictOutcome.SCORED
    assert verdict.reward == float(reason == "all tests")
    assert verdict.reason.startswith(reason)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"tests": {"type": "stdio", "cases": []}}, "at least 1 item"),
        ({"tests": {"type": "assert", "code": " ", "entry_point": "f"}}, "pattern"),
        ({"tests": {"type": "assert", "code": "f(1)", "entry_point": "f"}}, "check nothing"),
        ({"tests": {"type": "assert", "code": "assert (", "entry_point": "f"}}, "cannot be read"),
        ({"tests": {"type": "assert", "code": "import zzz\nassert f(1)"}}, "need the module zzz"),
        ({"tests": {"type": "dance"}}, "tests"),
        ({}, "tests"),
        ({"tests": {"type": "assert", "code": "assert f()"}, "language": "c"}, "use stdio"),
    ],
)
async def test_a_wrong_task_is_an_error_not_a_zero(code, params, words):
    verdict = await code.check(VerifierSpec(kind="code", params=params), "def f(x): return x", "")
    assert verdict.outcome is VerdictOutcome.ERROR
    assert verdict.reason.startswith("invalid task: ")
    assert words in verdict.reason


async def test_a_language_that_is_not_there_is_an_error_that_names_it(code, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    verdict = await code.check(_stdio(("", ""), language="go"), "package main", "")
    assert verdict.outcome is VerdictOutcome.ERROR
    assert verdict.reason == "no go here: go is not installed"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
async def test_a_compiled_program_runs_in_a_fresh_box_for_each_case(code):
    if not code.isolation.startswith("T1"):
        pytest.skip("other languages need T1")
    source = '#include <stdio.h>\nint main(void){int x;scanf("%d",&x);printf("%d\\n",2*x);}'
    spec = _stdio(("1\n", "2"), ("5\n", "10"), language="c")
    verdict = await code.check(spec, f"```c\n{source}\n```", "")
    assert (verdict.reward, verdict.reason) == (1.0, "2 cases")
    verdict = await code.check(spec, "int main(void){return x;}", "")
    assert verdict.reward == 0.0
    assert verdict.reason.startswith("does not compile: main.c")


async def test_expected_values_never_reach_the_process_of_the_solution(code):
    hunt = """
import gc, sys
def f(x):
    frame, found = sys._getframe(), []
    while frame:
        found += [*frame.f_locals.values(), *frame.f_globals.values()]
        frame = frame.f_back
    for thing in [*found, *gc.get_objects()]:
        if isinstance(thing, int) and thing // 1000 == 7346 and thing % 1000 == 521:
            return thing
    return 0
"""
    verdict = await code.check(_asserts("assert f(1) == 7346521"), hunt, "")
    assert (verdict.outcome, verdict.reward) == (VerdictOutcome.SCORED, 0.0)


async def test_a_sibling_that_is_killed_is_run_again(code):
    check = asyncio.ensure_future(
        code.check(_stdio(("", "1")), "import time\ntime.sleep(0.5)\nprint(1)", "")
    )
    assert await asyncio.to_thread(_kill_a_run)
    verdict = await check
    assert (verdict.reward, verdict.reason) == (1.0, "1 cases")


def _runs():
    """Processes that fork servers of this process have forked."""
    parents, commands = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid = int(stat.parent.name)
            parents[pid] = int(stat.read_text().rpartition(")")[2].split()[1])
            commands[pid] = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue

    def depth(pid):
        steps = 0
        while pid in parents and pid != os.getpid():
            pid, steps = parents[pid], steps + 1
        return steps if pid == os.getpid() else 0

    servers = [p for p, c in commands.items() if b"sandbox.zygote" in c and depth(p)]
    leaves = [p for p in servers if p not in parents.values()]
    return [p for p in leaves if depth(p) == 3]


def _kill_a_run():
    for _ in range(1000):
        if runs := _runs():
            os.kill(random.choice(runs), signal.SIGKILL)
            return True
    return False


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_corpus_is_judged_as_it_says(code):
    rows = [json.loads(line) for line in CORPUS.read_text().splitlines()]
    if not code.isolation.startswith("T1"):
        rows = [row for row in rows if row["params"].get("language", "python") == "python"]

    async def wrong(row):
        spec = VerifierSpec(kind="code", params=row["params"])
        verdict = await code.check(spec, row["response"], row["reference"])
        expected = row["expect"]
        is_right = verdict.outcome.value == expected["outcome"] and (
            "passed" not in expected or (verdict.reward == 1.0) == expected["passed"]
        )
        return None if is_right else (row["id"], verdict.outcome, verdict.reward, verdict.reason)

    found = await asyncio.gather(*map(wrong, rows))
    assert [row for row in found if row] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_verdicts_stay_the_same_under_load_while_siblings_are_killed(code):
    right = "def f(x):\n    return sorted(set(x))"
    jobs = [
        (_stdio(("3\n", "9"), time_limit_s=3.0), "n = int(input())\nprint(n * n)", 1.0),
        (_stdio(("3\n", "9"), time_limit_s=3.0), "print(8)", 0.0),
        (_stdio(("", "1")), "print(sum(range(10**6)) and 1)", 1.0),
        (_asserts("assert f([2, 1, 2]) == [1, 2]"), right, 1.0),
        (_asserts("assert f([2, 1, 2]) == [1, 2]"), EQUAL_TO_ALL, 0.0),
    ]
    stop = asyncio.Event()
    num_killed = 0

    async def kill_now_and_then():
        nonlocal num_killed
        while not stop.is_set():
            await asyncio.sleep(0.1)
            if runs := await asyncio.to_thread(_runs):
                with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                    os.kill(random.choice(runs), signal.SIGKILL)
                    num_killed += 1

    killer = asyncio.create_task(kill_now_and_then())
    for spec, program, reward in jobs:
        checks = [code.check(spec, program, "") for _ in range(100)]
        verdicts = await asyncio.gather(*checks)
        found = {(v.outcome, v.reward, v.reason) for v in verdicts}
        assert {row[:2] for row in found} == {(VerdictOutcome.SCORED, reward)}, found
    stop.set()
    await killer
    assert num_killed > 5
