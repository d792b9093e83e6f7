import random
import time

import pytest

from services.verifier.checks.check import InvalidTask, Task, read_params
from services.verifier.checks.regex import RegexCheck, RegexParams

check = RegexCheck()


async def _verdict(pattern, completion, reference="", **params):
    read = read_params("regex", RegexParams, {"pattern": pattern, **params})
    return await check(Task(reference=reference, params=read), completion)


async def test_a_pattern_is_searched_or_must_match_all():
    assert (await _verdict(r"\d+", "a 12 b")).reward == 1.0
    assert (await _verdict(r"\d+", "a 12 b", mode="fullmatch")).reward == 0.0
    assert (await _verdict(r"\d+", "12\n", mode="fullmatch")).reward == 0.0


async def test_the_last_answer_must_equal_the_reference():
    pattern = r"answer: (?P<answer>\w+)"
    assert (await _verdict(pattern, "answer: a, answer: b", "b")).reason == "equal"
    assert (await _verdict(pattern, "answer: b, answer: a", "b")).reason == "different"
    with pytest.raises(InvalidTask, match="the reference is empty"):
        await _verdict(pattern, "answer: b", " ")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a)\1", "RE2 has no back-references and no look-around"),
        ("(?=a)", "RE2 has no back-references and no look-around"),
        ("(", "missing"),
        (r"(?:\pL{100}){10}", "too large - compile failed"),
        (r"(?:(?:.?){100}){10}(?:(?:.?){100}){5}", "too large; use smaller counts"),
        ("\ud800", "pattern: "),
    ],
)
async def test_a_pattern_that_re2_refuses_is_an_invalid_task(pattern, reason):
    with pytest.raises(InvalidTask, match=reason):
        await _verdict(pattern, "aa")


@pytest.mark.parametrize(
    "pattern", [r"^(a+)+$", r"(a|aa)+$", r"(?:.?){900}b", r"(.{0,30}){0,30}b$"]
)
async def test_time_is_linear_in_the_completion(pattern):
    started = time.process_time()
    for length in (1_000, 100_000, 3_000_000):
        assert (await _verdict(pattern, "a" * length + "!")).reward == 0.0
    assert time.process_time() - started < 5.0


async def test_a_pattern_with_more_states_than_room_is_not_run_on_a_long_completion():
    coins = random.Random(1).choices("ab", k=1_500_000)
    started = time.process_time()
    assert (await _verdict("[ab]*a[ab]{500}c", "".join(coins[:50_000]))).reason == "no match"
    verdict = await _verdict("[ab]*a[ab]{500}c", "".join(coins))
    assert (verdict.reward, verdict.reason) == (0.0, "too long for this pattern")
    assert time.process_time() - started < 3.0
