import asyncio
import json
import subprocess
import sys

import pytest
from verifier_corpus import FILES, disagreements, every, read

from rlsd.cli.cases import survey
from rlsd.config import VerifierSection
from rlsd.trajectory import VerifierSpec
from services.verifier.core import open_verifier
from services.verifier.kinds import OPENERS

NAMES = [path.stem for path in FILES]
QUICK = 60
"""Cases of a file that the plain tests run."""


async def _verdicts(path, cases):
    kinds = tuple(kind for kind in survey(path).kinds if kind in OPENERS)
    section = VerifierSection(kinds=kinds, workers=2)
    async with open_verifier(section) as verifier:

        async def check(case):
            spec = VerifierSpec(kind=case["kind"], params=case.get("params") or {})
            verdict = await verifier.check(spec, case["response"], case["reference"])
            passed = verdict.reward == 1 if verdict.is_scored else None
            outcome = verdict.outcome.value
            return {"outcome": outcome, "passed": passed, "detail": verdict.reason}

        return await asyncio.gather(*(check(case) for case in cases))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
async def test_a_part_of_the_corpus_gets_the_expected_verdicts(path):
    cases = every([case for case in read(path) if not case.get("hostile")], QUICK)
    wrong = disagreements(cases, await _verdicts(path, cases))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_command_gives_the_same_verdicts_about_all_corpora_in_one_file(tmp_path):
    cases = [case for path in FILES for case in read(path)]
    assert len({case["id"] for case in cases}) == len(cases)
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(case) + "\n" for case in cases))
    command = [sys.executable, "-m", "rlsd", "verify", str(source), "--out", str(out)]
    subprocess.run(command, check=True, timeout=1700)
    verdicts = [json.loads(line) for line in out.read_text().splitlines()]
    assert [verdict["id"] for verdict in verdicts] == [case["id"] for case in cases]
    wrong = disagreements(cases, verdicts)
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong)
