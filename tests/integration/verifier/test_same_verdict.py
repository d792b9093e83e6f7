import asyncio
import random

import pytest
from verifier_corpus import FILES, every, read

from rlsd.config import VerifierSection
from rlsd.trajectory import VerifierSpec
from services.verifier.core import open_verifier

REPEATS = 100
SAMPLES = 5
"""Cases of each file of the corpus."""
BOMB = r"\boxed{(99999^{99999})^{99999}}"
FIXED = [
    {"kind": "exact", "params": {"after": "#"}, "response": "7 # 9", "reference": "9"},
    {"kind": "choice", "params": {}, "response": "It is (B).", "reference": "B"},
]


def _cases():
    kinds = ("math", "sql", "schema", "text")
    files = [path for path in FILES if path.stem in kinds]
    plain = [[case for case in read(path) if not case.get("hostile")] for path in files]
    return [*FIXED, *(case for cases in plain for case in every(cases, SAMPLES))]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_hundred_repeats_give_one_verdict_under_load_while_siblings_are_killed():
    cases = _cases()
    kinds = tuple(sorted({case["kind"] for case in cases} | {"math"}))
    section = VerifierSection(kinds=kinds, workers=3, timeout_s=8.0)
    finished = asyncio.Event()
    killed = 0
    async with open_verifier(section) as verifier:

        async def check(case):
            spec = VerifierSpec(kind=case["kind"], params=case.get("params") or {})
            verdict = await verifier.check(spec, case["response"], case["reference"])
            return (verdict.outcome, verdict.reward if verdict.is_scored else None)

        async def strike():
            """Each of these keeps a child busy until it is killed."""
            nonlocal killed
            while not finished.is_set():
                outcome, _ = await check({"kind": "math", "response": BOMB, "reference": "1"})
                killed += outcome.value == "timeout"

        async def repeat():
            numbers = [n for n in range(len(cases)) for _ in range(REPEATS)]
            random.Random(0).shuffle(numbers)
            found = await asyncio.gather(*(check(cases[n]) for n in numbers))
            finished.set()
            return zip(numbers, found, strict=True)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(strike())
            tasks.create_task(strike())
            repeated = tasks.create_task(repeat())
    verdicts = {}
    for number, verdict in repeated.result():
        verdicts.setdefault(number, set()).add(verdict)
    assert killed > 0
    assert {n: len(different) for n, different in verdicts.items()} == dict.fromkeys(verdicts, 1)
    assert len(verdicts) == len(cases)
