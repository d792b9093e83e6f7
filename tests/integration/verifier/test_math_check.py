import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlsd.trajectory import VerdictOutcome, VerifierSpec
from services.verifier.children.pool import ChildPool

pytestmark = pytest.mark.asyncio(loop_scope="session")

MATH = VerifierSpec(kind="math")
BOMB = r"\boxed{(99999^{99999})^{99999}}"
"""Past the screens, without end in sympy."""


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("42", "42."),
        ("1/2", r"\frac12"),
        ("0.5", r"\frac{1}{2}"),
        (r"\frac{1}{3}", "0.333333"),
        ("50\\%", "50 %"),
        ("1500", "1.5e3"),
        ("1,234", "1234"),
        ("4", r"2+2"),
        ("1,2", r"\{2,1\}"),
        ("x=5", "5"),
        ("5", "x=5"),
        ("11", "5+6=11"),
        ("sqrt(2)", r"\sqrt{2}"),
        (r"2\sqrt{2}", r"\sqrt{8}"),
        ("x^2+2x+1", "(x+1)^2"),
        ("x^2", "x²"),
        ("[1,2)", "[1, 2)"),
        ("x>3", "3<x"),
        (r"\pi", "3.14159265"),
        (r"\text{Monday}", "monday"),
        ("5 cm", "5"),
        ("1024", "2^{10}"),
        (r"\boxed{7}", "7"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    ],
)
async def test_equal_mathematics_is_rewarded(verifier, reference, answer):
    verdict = await verifier.check(MATH, rf"so \boxed{{{answer}}}.", reference)
    assert (verdict.outcome, verdict.reward) == (VerdictOutcome.SCORED, 1.0), verdict.reason


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("42", "41"),
        ("50", "50\\%"),
        ("50", r"\sqrt{2500}\,\%"),
        ("1/3", "0.33"),
        ("0.00000012", "0.00000034"),
        (r"\frac{\pi}{10^8}", "0.00000005"),
        ("(1,2)", r"\{1,2\}"),
        ("[1,2)", "(1,2)"),
        ("6", "5=6"),
        ("7", "7 or 8"),
        ("7", "7, 8"),
        ("tea", "eat"),
        (r"\pi", "3.14"),
        ("1", r"\frac{1}{0}"),
        ("5", "hello"),
        ("5", r"\frac{"),
        ("1", "9^{9^{9^9}}"),
        ("1", "("),
    ],
)
async def test_different_mathematics_is_not(verifier, reference, answer):
    verdict = await verifier.check(MATH, rf"so \boxed{{{answer}}}.", reference)
    assert (verdict.outcome, verdict.reward) == (VerdictOutcome.SCORED, 0.0), verdict.reason


@pytest.mark.parametrize(
    ("completion", "reference", "reward"),
    [
        ("The answer is 42.", "42", 1.0),
        ("3 + 4 = 7 apples.\n#### 7", "7", 1.0),
        ("x+1", "1+x", 1.0),
        ("The answer is Monday.", "Monday", 1.0),
        ("I got 3 and then the result is -3/4", "-3/4", 1.0),
        (r"first \boxed{1}, but it is \boxed{2}", "2", 1.0),
        (r"\boxed{1} or \boxed{2}", "2", 0.0),
        (r"\boxed{1} and \boxed{2}", "2", 0.0),
        ("no idea", "3", 0.0),
        ("", "3", 0.0),
    ],
)
async def test_the_answer_is_found_with_and_without_a_box(verifier, completion, reference, reward):
    verdict = await verifier.check(MATH, completion, reference)
    assert (verdict.outcome, verdict.reward) == (VerdictOutcome.SCORED, reward), verdict.reason


@pytest.mark.parametrize("reference", ["", " ", "???", r"\frac{1}{", "9^{9^{9}}"])
async def test_a_bad_reference_is_an_invalid_task_not_a_zero(verifier, reference):
    verdict = await verifier.check(MATH, r"\boxed{3}", reference)
    assert verdict.outcome is VerdictOutcome.ERROR
    assert verdict.reason.startswith("invalid task: the reference")


async def test_endless_algebra_is_killed_at_the_deadline_and_the_next_check_works(
    verifier, child_pids
):
    (before,) = child_pids()
    started = time.monotonic()
    verdict = await verifier.check(MATH, BOMB, "1")
    assert verdict.outcome is VerdictOutcome.TIMEOUT
    assert 0.9 < time.monotonic() - started < 2.5
    assert (await verifier.check(MATH, r"\boxed{2x}", "x+x")).reward == 1.0
    (after,) = child_pids()
    assert after != before


async def test_a_child_killed_in_the_middle_is_an_error_and_the_next_check_works(
    verifier, child_pids
):
    async def kill_when_busy():
        (pid,) = child_pids()
        await asyncio.to_thread(_wait_for_state, pid, "R")
        os.kill(pid, signal.SIGKILL)

    assert (await verifier.check(MATH, r"\boxed{2x}", "x+x")).reward == 1.0  # warm
    async with asyncio.TaskGroup() as tasks:
        check = tasks.create_task(verifier.check(MATH, BOMB, "1"))
        tasks.create_task(kill_when_busy())
    assert check.result().outcome is VerdictOutcome.ERROR
    assert check.result().reason == "math child died (signal 9)"
    assert (await verifier.check(MATH, r"\boxed{2x}", "x+x")).reward == 1.0


async def test_a_child_that_died_while_idle_costs_no_verdict(verifier, child_pids):
    (pid,) = child_pids()
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(_wait_for_state, pid, "Z")
    assert (await verifier.check(MATH, r"\boxed{2x}", "x+x")).reward == 1.0


async def test_a_cancelled_check_leaves_no_reply_for_the_next_one(verifier, child_pids):
    assert (await verifier.check(MATH, r"\boxed{2x}", "x+x")).reward == 1.0
    (before,) = child_pids()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await verifier.check(MATH, BOMB, "1")
    assert (await verifier.check(MATH, r"\boxed{2x}", "x+x")).reward == 1.0
    assert (await verifier.check(MATH, r"\boxed{3x}", "x+x")).reward == 0.0
    assert child_pids() != [before]


async def test_two_children_answer_at_once_and_leave_with_the_service(verifier, child_pids):
    (shared,) = child_pids()
    module = "services.verifier.checks.math.algebra"
    async with ChildPool(module, num_children=2, timeout_s=1.0) as pool:
        assert len(child_pids()) == 3
        replies = await asyncio.gather(
            *(pool.ask({"reference": "x+x", "answer": f"{n}x"}) for n in range(6))
        )
    assert [r["comparison"] == "equal" for r in replies] == [n == 2 for n in range(6)]
    assert child_pids() == [shared]


async def test_the_child_sees_no_secret_and_has_a_memory_limit(verifier, child_pids):
    (pid,) = child_pids()
    environment = _proc(pid, "environ")
    assert "PATH=" in environment
    assert "secret" not in environment
    limits = _proc(pid, "limits")
    assert f"Max address space         {2 * 1024**3}" in limits


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.text(st.sampled_from("$\\(){}^_!0123456789.,=x+-/%") | st.characters(), max_size=40),
    st.booleans(),
)
async def test_any_completion_gets_a_verdict_within_the_deadline(verifier, text, is_boxed):
    started = time.monotonic()
    verdict = await verifier.check(MATH, rf"\boxed{{{text}}}" if is_boxed else text, "x+1")
    assert time.monotonic() - started < 5.0
    assert verdict.outcome in VerdictOutcome
    assert verdict.reward in (0.0, 1.0)


def _wait_for_state(pid: int, state: str) -> None:
    """Return once the process is running ("R") or dead ("Z", or gone)."""
    while (stat := _proc(pid, "stat")) and stat.rpartition(")")[2].split()[0] != state:
        time.sleep(0.01)


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
