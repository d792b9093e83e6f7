import asyncio
import math
import subprocess
import sys

import pytest
from prometheus_client import REGISTRY

from rlsd.config import VerifierSection
from rlsd.errors import VerifierError
from rlsd.trajectory import Verdict, VerdictOutcome, VerifierSpec
from services.verifier import metrics
from services.verifier.checks.check import Kind, Params
from services.verifier.core import Verifier, open_verifier


class NoParams(Params):
    pass


def _verifier(check, max_concurrency=4):
    return Verifier({"fixed": Kind(check, NoParams)}, max_concurrency=max_concurrency)


def _answering(verdict):
    async def check(task, completion):
        return verdict

    return check


def _count(kind, outcome):
    labels = {"kind": kind, "outcome": outcome}
    return REGISTRY.get_sample_value("rlsd_verifier_verdicts_total", labels) or 0.0


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf, 1.5, -0.1])
async def test_a_reward_that_no_loss_may_see_is_an_error(reward):
    verifier = _verifier(_answering(Verdict(outcome=VerdictOutcome.SCORED, reward=reward)))
    verdict = await verifier.check(VerifierSpec(kind="fixed"), "", "")
    assert verdict.outcome is VerdictOutcome.ERROR
    assert verdict.reward == 0.0
    assert not verdict.is_scored


async def test_an_unknown_kind_is_an_error_that_names_the_known_ones():
    verifier = _verifier(_answering(None))
    before = _count("unknown", "error")
    verdict = await verifier.check(VerifierSpec(kind="x"), "", "")
    assert verdict.outcome is VerdictOutcome.ERROR
    assert verdict.reason == "unknown verifier kind 'x'; known: fixed"
    assert _count("unknown", "error") == before + 1
    assert _count("x", "error") == 0


async def test_a_wrong_parameter_is_an_error():
    spec = VerifierSpec(kind="fixed", params={"colour": 1})
    verdict = await _verifier(_answering(None)).check(spec, "", "")
    assert verdict.outcome is VerdictOutcome.ERROR
    assert "colour: unknown; remove it" in verdict.reason


async def test_a_check_that_cannot_decide_is_an_error_in_one_line():
    async def check(task, completion):
        raise VerifierError("first \ud800\nsecond" + "x" * 9999)

    verdict = await _verifier(check).check(VerifierSpec(kind="fixed"), "", "")
    assert verdict.outcome is VerdictOutcome.ERROR
    assert verdict.reason.startswith("first ? second")
    assert len(verdict.reason) == 500


async def test_no_more_checks_run_at_once_than_allowed():
    running = most = 0

    async def check(task, completion):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1
        return Verdict(outcome=VerdictOutcome.SCORED, reward=1.0)

    verifier = _verifier(check, max_concurrency=2)
    spec = VerifierSpec(kind="fixed")
    verdicts = await asyncio.gather(*(verifier.check(spec, "", "") for _ in range(8)))
    assert most == 2
    assert all(v.duration_s > 0 for v in verdicts)


def test_the_service_imports_without_a_tensor_library():
    code = (
        "import sys, services.verifier.__main__\n"
        "heavy = {'torch', 'transformers', 'ray', 'sympy', 'math_verify'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        (Verdict(outcome=VerdictOutcome.SCORED, reward=1.0), "pass"),
        (Verdict(outcome=VerdictOutcome.SCORED, reward=0.999), "partial"),
        (Verdict(outcome=VerdictOutcome.SCORED, reward=0.0), "fail"),
        (Verdict(outcome=VerdictOutcome.ERROR, reason="x"), "error"),
        (Verdict(outcome=VerdictOutcome.TIMEOUT, reason="x"), "timeout"),
    ],
)
async def test_a_verdict_is_counted_once_under_what_it_says(verdict, outcome):
    outcomes = ("pass", "partial", "fail", "error", "timeout")
    before = {o: _count("fixed", o) for o in outcomes}
    await _verifier(_answering(verdict)).check(VerifierSpec(kind="fixed"), "", "")
    grown = {o: _count("fixed", o) - before[o] for o in outcomes}
    assert grown == dict.fromkeys(outcomes, 0) | {outcome: 1}


async def test_every_outcome_of_a_wanted_kind_is_there_before_the_first_check():
    metrics.VERDICTS.clear()  # other tests of this process have counted
    async with open_verifier(VerifierSection(kinds=("regex", "choice"))):
        for kind in ("regex", "choice"):
            for outcome in ("pass", "partial", "fail", "error", "timeout"):
                labels = {"kind": kind, "outcome": outcome}
                assert REGISTRY.get_sample_value("rlsd_verifier_verdicts_total", labels) == 0
