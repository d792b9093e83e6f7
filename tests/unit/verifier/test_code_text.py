"""What needs no process: the program in a completion, outputs, values between boxes, tests."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, OrderedDict, defaultdict, namedtuple
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.checks.code.boxed.codec import Codec, ProtocolBroken, alike
from services.verifier.checks.code.boxed.source import TestSource as Source
from services.verifier.checks.code.boxed.source import TestsUnreadable as Unreadable
from services.verifier.checks.code.extract import program_of
from services.verifier.checks.code.output import same_output


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("print(1)", "print(1)"),
        ("```python\nprint(1)\n```", "print(1)\n"),
        ("a\n```\nprint(1)\n```\nb", "print(1)\n"),
        ("```python\n1\n```\n```python\n2\n```", "2\n"),
        ("```python\n1\n```\nOutput:\n```\n5\n```", "1\n"),
        ("```py\n1\n```\n```text\n5\n```", "1\n"),
        ("```\n1\n```\n```text\n5\n```", "1\n"),
        ("```text\n5\n```", "5\n"),
        ("```python\nprint(1)", "print(1)"),
        ("~~~python\n1\n~~~", "1\n"),
        ("````python\n```\n````", "```\n"),
        ("   ```python\nprint(1)\n   ```", "print(1)\n"),
        ("```python\r\nprint(1)\r\n```", "print(1)\r\n"),
        ("", ""),
        ("```", ""),
    ],
)
def test_the_program_is_the_last_block_of_its_language(completion, program):
    assert program_of(completion, "python") == program


def test_other_languages_have_labels_of_their_own():
    text = "```python\n1\n```\n```c++\n2\n```\n```c\n3\n```"
    assert program_of(text, "cpp") == "2\n"
    assert program_of(text, "c") == "3\n"


def test_a_hostile_completion_is_searched_in_linear_time():
    started = time.monotonic()
    program_of("```python\n" * 60_000, "python")
    program_of("`" * 500_000, "python")
    program_of("```" + "a" * 500_000, "python")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("found", "expected", "is_same"),
    [
        (b"1\n2\n", "1\n2", True),
        (b"1  \r\n2\t\n\n\n", "1\n2\n", True),
        (b"1 2", "1\n2", False),
        (b" 1", "1", False),
        (b"1\n\n2", "1\n2", False),
        (b"1", "1\n2", False),
        (b"1\n2\n3", "1\n2", False),
        (b"", "\n", True),
        (b"\xff", "\ufffd", False),
        (b"1\0", "1", False),
        ("é".encode(), "é", True),
    ],
)
def test_outputs_are_compared_line_by_line(found, expected, is_same):
    assert same_output(found, expected) is is_same


def test_a_flood_of_lines_is_not_split():
    started = time.monotonic()
    assert not same_output(b"x\n" * 8_000_000, "x\n")
    assert time.monotonic() - started < 2


def _no_handles(*_):
    raise ProtocolBroken("a handle")


CODEC = Codec(_no_handles, _no_handles)
Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -1, 2**64, -(3**5000), 1.5, float("inf"), "", "é\ud800", b"a\0"),
        *((), (1,), [1, [2, (3,)]], {1, "a"}, frozenset({1}), {"a": {None: [1]}}, {(1, 2): 3}),
        *(1 + 2j, range(1, 9, 2), slice(1, None), bytearray(b"x"), int, dict),
        *(Decimal("1.10"), Fraction(1, 3), date(2020, 1, 2), timedelta(1, 2, 3)),
        *(Counter("aab"), OrderedDict(a=1), Point(1, [2])),
    ],
)
def test_plain_values_come_back_as_they_were(value):
    back = CODEC.decode(CODEC.encode(value))
    assert back == value
    assert type(back).__name__ == type(value).__name__


def test_a_default_dict_comes_back_without_its_function():
    back = CODEC.decode(CODEC.encode(defaultdict(int, a=1)))
    assert back == {"a": 1}
    assert isinstance(back, defaultdict)


@pytest.mark.parametrize("base", [int, float, str, list, dict, tuple, set])
def test_of_a_subclass_only_the_data_travels(base):
    body = {"__eq__": lambda *_: True, "__hash__": lambda _: 0, "__iter__": lambda _: iter([9])}
    back = CODEC.decode(CODEC.encode(type("Liar", (base,), body)()))
    assert type(back) is base
    assert back == base()
    assert back != "anything"


@pytest.mark.parametrize("depth", [500, 5000])
def test_a_value_nested_too_deep_is_refused(depth):
    value: list = []
    for _ in range(depth):
        value = [value]
    with pytest.raises((ValueError, RecursionError)):
        CODEC.encode(value)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_json)
def test_whatever_the_other_side_sends_is_a_value_or_a_broken_protocol(item):
    with contextlib.suppress(ProtocolBroken):
        CODEC.decode(item)


@pytest.mark.parametrize(
    "item",
    [
        ["np", "O", [1], "AAAA"],
        ["bt", "eval"],
        ["bt", "print"],
        ["i", "zz"],
        ["nt", "x", ["if"], [1]],
    ],
)
def test_tags_with_hostile_parts_are_refused(item):
    with pytest.raises(ProtocolBroken):
        CODEC.decode(item)


@pytest.mark.parametrize(
    ("found", "expected", "is_alike"),
    [
        ((1, 2), [1, 2], True),
        (0.1 + 0.2, 0.3, True),
        (1, 1.0, True),
        (True, 1, False),
        (1, True, False),
        ("1", 1, False),
        ({1: "a"}, {"1": "a"}, True),
        ({1, 2}, [2, 1], True),
        ([1], [1, 2], False),
        (None, None, True),
        (None, 0, False),
        (float("nan"), float("nan"), True),
    ],
)
def test_results_are_compared_as_json_can_say_them(found, expected, is_alike):
    assert alike(found, expected) is is_alike


@pytest.mark.parametrize("text", ["f(1)", "x = 1", "assert (", "def check(c):\n    c(1)", "# no"])
def test_tests_that_check_nothing_are_unreadable(text):
    with pytest.raises(Unreadable):
        Source(text)


def test_tests_know_what_they_need_of_the_answer():
    source = Source("import math\ndef helper(x): return x\nassert f(helper(1)) == math.pi * LIMIT")
    assert {"f", "LIMIT"} <= source.wanted
    assert not {"math", "helper"} & source.wanted
    assert source.num_asserts == 1
