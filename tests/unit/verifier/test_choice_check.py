import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.checks.check import InvalidTask, Task, read_params
from services.verifier.checks.choice import ChoiceCheck, ChoiceParams

check = ChoiceCheck()


@pytest.mark.parametrize(
    "completion",
    [
        r"\boxed{B}",
        r"\boxed{\text{b}}",
        r"\boxed{A} is tempting, but \boxed{(B)}",
        "The answer is (b).",
        "The answer is B, not A.",
        "**Answer:** B",
        "answer: b",
        "(A) is wrong. (B)",
        "It is A... no, B",
        "The answer is A. Wait: the answer is B.",
        "B is correct",
        "The answer is B, I think.",
        "A cat has four legs, so I say B",
        "B",
        "Ｂ",
    ],
)
async def test_the_final_choice_is_found(completion):
    verdict = await check(Task(reference="B", params=ChoiceParams()), completion)
    assert (verdict.reward, verdict.reason) == (1.0, "chose b")


@pytest.mark.parametrize(
    "completion",
    [
        "A or B",
        "A or B because both hold",
        "the answer is A or B because both hold",
        "the answer is A or B",
        "(A) or (B)",
        r"\boxed{A} or \boxed{B}",
        r"\boxed{A, B}",
        "the answer is (a), (b).",
    ],
)
async def test_two_final_choices_are_ambiguous(completion):
    verdict = await check(Task(reference="B", params=ChoiceParams()), completion)
    assert (verdict.reward, verdict.reason) == (0.0, "ambiguous: a and b")


@pytest.mark.parametrize("completion", ["", "I think a cat", "no idea", r"\boxed{7}", r"\boxed{B"])
async def test_no_choice_is_zero(completion):
    verdict = await check(Task(reference="A", params=ChoiceParams()), completion)
    assert (verdict.reward, verdict.reason) in [(0.0, "no option chosen"), (0.0, "chose b")]


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ("The answer is: Not Given", 1.0),
        ("The answer is: given", 0.0),
        ("not", 0.0),
        ("Clearly not given.", 1.0),
    ],
)
async def test_options_may_be_texts_that_contain_one_another(completion, reward):
    params = ChoiceParams(choices=["given", "not given", "not"])
    assert (await check(Task(reference="not given", params=params), completion)).reward == reward


@pytest.mark.parametrize(
    ("reference", "params", "message"),
    [
        ("Paris", {}, "the reference 'Paris' is no option; give params.choices"),
        ("C", {"choices": ["A", "B"]}, "it must be one of params.choices"),
        ("", {}, "is no option"),
        ("A", {"choices": ["A", " "]}, "choices: one is empty"),
        ("A", {"choices": ["A"]}, "choices: list should have at least 2 items"),
        ("A", {"choice": ["A", "B"]}, "choice: unknown; remove it.*known: choices"),
    ],
)
async def test_a_wrong_task_is_no_reward(reference, params, message):
    with pytest.raises(InvalidTask, match=message):
        await check(
            Task(reference=reference, params=read_params("choice", ChoiceParams, params)), "A"
        )


@given(st.text(st.sampled_from("AaBbIiı()\\{}., \nſ") | st.characters(), max_size=60))
async def test_any_text_gets_a_reward_of_zero_or_one(completion):
    verdict = await check(Task(reference="I", params=ChoiceParams()), completion)
    assert verdict.reward in (0.0, 1.0)
