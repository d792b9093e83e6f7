import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.checks.schema.extract import find
from services.verifier.checks.schema.strict import NotJson, read

ROOM = 200_000
"""Characters; reading them once takes milliseconds, reading them anew at each bracket hours."""


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("42", 42),
        ('```json\n"text"\n```', "text"),
        ('first {"a": 1} then {"a": 2}.', {"a": 2}),
        ('```json\n{"a": 1}\n```\nno: {"a": 2}', {"a": 2}),
        ('```json\n{"a": "```"}\n```', {"a": "```"}),
        ('in [0, 1) I take {"a": 1}', {"a": 1}),
        ('{"a": 1} fills {slot}', {"a": 1}),
        ('[see {"a": 1}]', {"a": 1}),
        ('{"a": 1}\n```python\n{1: 2}["x"]\n```', None),
        ('{"a": 1}\n```python\nx = {}\n```', {"a": 1}),
    ],
)
def test_the_last_json_is_found(completion, value):
    if value is None:
        with pytest.raises(NotJson):
            find(completion, read)
    else:
        assert find(completion, read).value == value


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ('{"a": 1} no: {"a": NaN}', "NaN is not JSON"),
        ('{"a": 1} no: {"a": ', "never closed"),
        ('[{"a": 1}, {"a": 2}', "never closed"),
        ('{"a": {"b": 1}, oops}', "not JSON"),
        ('{"a": 1}}', "closing bracket too many"),
        ('{{"a": 1}}', "not JSON"),
        ("{'a': 1}", "not JSON"),
        ('{"a": 1, "a": 1}', "a key twice"),
        ('{"a": 1e999}', "out of range"),
        ('{"a": ' + "9" * 5000 + "}", "too many digits"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ("[" * 600 + "]" * 600, "nested more than 512 deep"),
        ("a {set} of words", "no JSON"),
        ("", "no JSON"),
    ],
)
def test_what_is_broken_is_not_mended(completion, reason):
    with pytest.raises(NotJson, match=reason):
        find(completion, read)


@pytest.mark.parametrize(
    "piece",
    [
        *("{", "[", '{"', "[1 ", "[1,", '{"a":', "```\n{", "```", '\\"', '{"\\', "[0, 1) ", "{}"),
        *("x```a\ny```b\n", "{ a ", '["', "[1" + " " * 50),
    ],
)
def test_brackets_that_never_close_cost_linear_time(piece):
    completion = piece * (ROOM // len(piece))
    started = time.process_time()
    with contextlib.suppress(NotJson):
        assert find(completion, read).value == {}
    assert time.process_time() - started < 3.0


def test_a_long_document_is_read_and_a_longer_completion_refused():
    assert len(find("[" + "1," * 400_000 + "1]", read).value) == 400_001
    with pytest.raises(NotJson, match="more than 1048576 characters"):
        find(" " * 1_048_577, read)
    with pytest.raises(NotJson, match="too long to look for it"):
        find("{}" * 200_000, read)


@given(st.text(st.sampled_from('{}[]":,`~\\ \n1ajson') | st.characters(), max_size=80))
def test_any_text_is_json_or_refused(completion):
    try:
        found = find(completion, read)
    except NotJson:
        return
    assert read(found.text) == found.value
