import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.checks.check import InvalidTask, Task, read_params
from services.verifier.checks.numeric import NumericCheck, NumericParams

check = NumericCheck()


async def _verdict(completion, reference, **params):
    read = read_params("numeric", NumericParams, params)
    return await check(Task(reference=reference, params=read), completion)


@pytest.mark.parametrize(
    ("completion", "reference", "params"),
    [
        ("first 3, then 42.", "42", {}),
        (r"\boxed{1{,}234.5 \text{ kg}}", "1234.5", {}),
        (r"\boxed{1.5\times 10^{3}}", "1500", {}),
        ("The answer is 42. It took 3 steps.", "42", {}),
        (r"\boxed{\frac{1}{3}}", "0.333333", {"rel_tol": 1e-5}),
        ("25 %", "1/4", {}),
        ("=> -7 m/s", "-7", {"after": "=>"}),
        ("101", "100", {"abs_tol": 1.0}),
    ],
)
async def test_equal_numbers_are_rewarded(completion, reference, params):
    assert (await _verdict(completion, reference, **params)).reward == 1.0


@pytest.mark.parametrize(
    ("completion", "reference", "params"),
    [
        (r"\boxed{5} or \boxed{6}", "6", {}),
        (r"\boxed{5, 6}", "6", {}),
        (r"\boxed{2+3}", "5", {}),
        (r"\boxed{0.0000001}", "0.0000002", {}),
        (r"\boxed{9007199254740993}", "9007199254740992", {"rel_tol": 0}),
        (r"\boxed{nan}", "5", {}),
        (r"\boxed{1e99999}", "5", {}),
        ("1.2.3", "3", {}),
        ("101.1", "100", {"abs_tol": 1.0, "rel_tol": 0}),
        ("5", "5", {"after": "=>"}),
        ("", "5", {}),
    ],
)
async def test_other_numbers_are_not(completion, reference, params):
    assert (await _verdict(completion, reference, **params)).reward == 0.0


@pytest.mark.parametrize("reference", ["", "five", "5 6", "nan"])
async def test_a_reference_that_is_no_number_is_an_invalid_task(reference):
    with pytest.raises(InvalidTask, match="is not a number"):
        await _verdict("5", reference)


@given(
    st.text(st.sampled_from("0123456789.,-+/%^{}\\boxedfrac $\n") | st.characters(), max_size=80)
)
async def test_any_text_gets_a_reward_of_zero_or_one(completion):
    assert (await _verdict(completion, "5")).reward in (0.0, 1.0)
