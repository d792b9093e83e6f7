import pytest

from services.verifier.checks.check import InvalidTask, Task, read_params
from services.verifier.checks.exact import ExactCheck, ExactParams

check = ExactCheck()


@pytest.mark.parametrize(
    ("completion", "reference", "params", "reward"),
    [
        ("7 ; 4 ; 2 # 9", "9", {"after": "#"}, 1.0),
        ("7 ; 4 ; 2 # 9 and more", "9", {"after": "#"}, 0.0),
        ("7 ; 4 ; 2 # 19", "9", {"after": "#"}, 0.0),
        ("# 9 # 8", "9 # 8", {"after": "#"}, 1.0),
        ("# 9 # 8", "8", {"after": "#", "last": True}, 1.0),
        ("so\n#### 72\n", "72", {"after": "####", "last": True}, 1.0),
        ("  two \n words ", "two words", {}, 1.0),
        ("Ｔｗｏ", "Two", {}, 1.0),
        ("Paris", "paris", {}, 0.0),
        ("PARIS", "paris", {"ignore_case": True}, 1.0),
        ("", "9", {}, 0.0),
    ],
)
async def test_the_answer_is_compared_whole(completion, reference, params, reward):
    verdict = await check(Task(reference=reference, params=ExactParams(**params)), completion)
    assert verdict.is_scored
    assert verdict.reward == reward


async def test_a_missing_marker_is_zero_and_says_so():
    verdict = await check(Task(reference="9", params=ExactParams(after="#")), "9")
    assert (verdict.reward, verdict.reason) == (0.0, "no marker")


async def test_an_empty_reference_is_an_invalid_task():
    with pytest.raises(InvalidTask, match="the reference is empty"):
        await check(Task(reference=" ", params=ExactParams()), "")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"aftr": "#"}, "aftr: unknown; remove it.*known: after, last, ignore_case"),
        ({"after": 3}, "after: input should be a valid string, got 3"),
        ({"after": ""}, "after: string should have at least 1 character"),
        ({"last": True}, "last: has no effect without after; give the marker"),
    ],
)
def test_a_wrong_parameter_is_named_with_the_remedy(params, message):
    with pytest.raises(InvalidTask, match=message):
        read_params("exact", ExactParams, params)
