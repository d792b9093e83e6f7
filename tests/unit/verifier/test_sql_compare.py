import datetime
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.checks.sql.compare import (
    same_in_any_column_order,
    same_rows,
    tie_groups,
)

VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.binary(max_size=3),
)
TABLES = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.tuples(*[VALUES] * width), min_size=1, max_size=8)
)


def same(expected, found, *, groups=None, tolerance=1e-9):
    return same_rows(expected, found, groups=groups or [len(expected)], tolerance=tolerance)


@given(TABLES, st.randoms())
def test_rows_in_any_order_are_the_same_rows(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert same(rows, shuffled)


@given(TABLES)
def test_one_row_more_is_another_result(rows):
    assert not same(rows, [*rows, rows[0]])
    assert not same([*rows, rows[0]], rows)


@given(TABLES, st.data())
def test_columns_in_another_order_are_found(rows, data):
    order = data.draw(st.permutations(range(len(rows[0]))))
    permuted = [tuple(row[i] for i in order) for row in rows]
    assert same_in_any_column_order(rows, permuted, groups=[len(rows)], tolerance=1e-9)


@given(st.lists(st.tuples(st.floats(0.1, 1e6), st.integers(0, 2)), min_size=1, max_size=30))
def test_rounding_does_not_matter_in_any_row(rows):
    nudged = [(value * (1 + 1e-13), number) for value, number in reversed(rows)]
    assert same(rows, nudged)


@pytest.mark.parametrize(
    ("a", "b", "is_same"),
    [
        (1, 1.0, True),
        (1, Decimal("1.00"), True),
        (0.1 + 0.2, 0.3, True),
        (0.3, Decimal("0.3"), True),
        (1e-17, 0, True),
        (float("nan"), float("nan"), True),
        ([1, 0.1 + 0.2], [1, 0.3], True),
        ({"a": 1}, {"a": 1.0}, True),
        (None, None, True),
        (0.3, 0.3001, False),
        (2**63 - 1, 2**63 - 2, False),
        (2**53 + 1, 2**53, False),
        (Decimal("1.10"), Decimal("1.11"), False),
        (float("inf"), float("-inf"), False),
        (float("inf"), 1e308, False),
        (float("nan"), 0.0, False),
        (None, 0, False),
        (None, "", False),
        (None, "None", False),
        (1, "1", False),
        (b"a", "a", False),
        (True, 1, False),
        ("a", "A", False),
        ("a", "a ", False),
        (datetime.date(2024, 1, 1), "2024-01-01", False),
        (datetime.date(2024, 1, 1), datetime.date(2024, 1, 1), True),
        ([1, 2], [2, 1], False),
    ],
)
def test_values_are_equal_by_class_and_value(a, b, is_same):
    assert same([(a,)], [(b,)]) is is_same
    assert same([(b,)], [(a,)]) is is_same


def test_duplicates_count():
    assert not same([(1,), (1,), (2,)], [(1,), (2,), (2,)])


def test_only_ties_may_change_places():
    rows = [(1, "a"), (1, "b"), (2, "c")]
    groups = tie_groups([(row[0],) for row in rows])
    assert groups == [2, 1]
    assert same(rows, [(1, "b"), (1, "a"), (2, "c")], groups=groups)
    assert not same(rows, [(1, "a"), (2, "c"), (1, "b")], groups=groups)


def test_columns_that_match_one_by_one_are_not_yet_the_same_rows():
    expected, found = [(1, 2), (2, 1)], [(1, 1), (2, 2)]
    assert not same_in_any_column_order(expected, found, groups=[2], tolerance=0.0)


@pytest.mark.parametrize("num_wrong", [0, 1])
def test_many_equal_columns_are_no_factorial(num_wrong):
    expected = [(0,) * 30] * 3
    found = [(0,) * (30 - num_wrong) + (1,) * num_wrong] * 3
    started = time.process_time()
    is_same = same_in_any_column_order(expected, found, groups=[3], tolerance=1e-9)
    assert is_same is (num_wrong == 0)
    assert time.process_time() - started < 1


def test_whole_numbers_stay_exact_beside_rounded_ones():
    assert same([(2**53 + 1, 0.1 + 0.2)], [(2**53 + 1, 0.3)])
    assert not same([(2**53 + 1, 0.1 + 0.2)], [(2**53, 0.3)])
