import importlib.util
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from rlsd.config import VerifierSection
from rlsd.data.sources import load_prompts
from rlsd.trajectory import VerdictOutcome, VerifierSpec
from services.verifier.core import Verifier, open_verifier

reasoning_gym = pytest.importorskip("reasoning_gym")
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gym() -> AsyncIterator[Verifier]:
    async with open_verifier(VerifierSection(timeout_s=5.0, kinds=("reasoning_gym",))) as opened:
        yield opened


def _task(dataset, **params):
    item = reasoning_gym.create_dataset(dataset, size=1, seed=3)[0]
    entry = json.loads(json.dumps({"answer": item["answer"], "metadata": item["metadata"]}))
    return VerifierSpec(
        kind="reasoning_gym", params={"dataset": dataset, "entry": entry, **params}
    ), item["answer"]


@pytest.mark.parametrize(
    "dataset",
    ["countdown", "puzzle24", "simple_integration", "n_queens", "sudoku", "bitwise_arithmetic"],
)
async def test_an_answer_has_the_score_of_its_dataset(gym, dataset):
    spec, answer = _task(dataset)
    assert (await gym.check(spec, answer, "")).reward == 1.0
    verdict = await gym.check(spec, "no idea", "")
    assert verdict.is_scored
    assert verdict.reward < 0.5


async def test_prompts_of_the_catalogue_are_scored_as_they_ask_for_it(gym):
    prompt = load_prompts("reasoning_gym:countdown?size=1&seed=5").prompts[0]
    right = f"Let me think: 1+1. Answer: {prompt.reference}"
    assert (await gym.check(prompt.verifier, right, prompt.reference)).reward == 1.0
    verdict = await gym.check(prompt.verifier, prompt.reference, prompt.reference)
    assert (verdict.reward, verdict.reason) == (0.0, "no marker")


@pytest.mark.parametrize(
    ("dataset", "code"),
    [
        ("binary_matrix", "open({path!r}, 'w') and 1"),
        ("spiral_matrix", "open({path!r}, 'w') and 1"),
        ("string_insertion", "open({path!r}, 'w') and 1"),
        ("n_queens", "open({path!r}, 'w') and 1"),
        ("countdown", "open({path!r}, 'w') and 1"),
        ("puzzle24", "open({path!r}, 'w') and 1"),
        ("simple_integration", "open({path!r}, 'w') and x"),
        ("intermediate_integration", "open({path!r}, 'w') and x"),
    ],
)
async def test_an_answer_is_never_run_as_code(gym, tmp_path, dataset, code):
    spec, _ = _task(dataset)
    path = tmp_path / "written"
    verdict = await gym.check(spec, code.format(path=str(path)), "")
    assert verdict.is_scored
    assert verdict.reward < 0.1
    assert not path.exists()


async def test_an_answer_cannot_read_the_solution_from_its_scorer(gym):
    spec, answer = _task("n_queens")
    forged = "[r.split() for r in __import__('sys')._getframe(1).f_locals['valid_solutions'][0]"
    assert (await gym.check(spec, f"{forged}.split('\\n')]", "")).reward == 0.0
    board = [row.split() for row in answer.split("\n")]
    assert (await gym.check(spec, repr(board), "")).reward == 0.5  # a literal is still read


@pytest.mark.parametrize("answer", ["(" * 500 + "1" + ")" * 500, "9**9**9**9", "1" * 30_000])
async def test_an_answer_that_would_not_end_is_refused(gym, answer):
    spec, _ = _task("countdown")
    verdict = await gym.check(spec, answer, "")
    assert (verdict.outcome, verdict.reward) == (VerdictOutcome.SCORED, 0.0)


@pytest.mark.parametrize(
    ("dataset", "params", "reason"),
    [
        ("countdown", {"dataset": "count_down"}, "reasoning-gym has no 'count_down'"),
        ("countdown", {"entry": {"answer": "1"}}, "its own answer is given 0.01, not 1"),
        ("gcd", {"config": {"min_numbers": -1}}, "config:"),
    ],
)
async def test_a_wrong_task_is_no_reward(gym, dataset, params, reason):
    spec, _ = _task(dataset)
    spec = VerifierSpec(kind=spec.kind, params={**spec.params, **params})
    verdict = await gym.check(spec, "1", "")
    assert verdict.outcome is VerdictOutcome.ERROR
    assert reason in verdict.reason


async def test_without_the_library_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    async with open_verifier(VerifierSection(kinds=("reasoning_gym",))) as bare:
        spec = VerifierSpec(kind="reasoning_gym", params={"dataset": "gcd", "entry": {}})
        verdict = await bare.check(spec, "1", "")
    assert verdict.outcome is VerdictOutcome.ERROR
    assert "pip install 'rlsd[reasoning-gym]'" in verdict.reason
