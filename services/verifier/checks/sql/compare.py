"""Whether two results are the same rows. Pure.

| values | equal when |
|---|---|
| NULL | both are |
| integers, decimals | exactly; 2^53 and 2^63 have neighbours |
| a float and any number | relatively within the tolerance, or within 1e-12; 1 is 1.0; NaN is NaN |
| text, blobs, booleans, dates, … | the same type and the same value: '1' is not 1, TRUE is not 1 |

Rows count as often as they appear. Where the reference orders, only its ties may change places.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

Row = tuple[Any, ...]
Rows = Sequence[Row]

_NEAR_ZERO = 1e-12
"""Where a relative tolerance means nothing: sums that cancel."""
_MOST_GREEDY = 500
"""Rows that are matched one by one, at quadratic cost; only rounding at an edge needs it."""
_MOST_PERMUTATIONS = 100


def same_rows(expected: Rows, found: Rows, *, groups: Sequence[int], tolerance: float) -> bool:
    """Whether the rows agree group by group.

    Args:
        groups: lengths of the runs within which the order is free; one run when it is everywhere.
    """
    if len(expected) != len(found):
        return False
    start = 0
    for length in groups:
        end = start + length
        if not _same_bag(expected[start:end], found[start:end], tolerance):
            return False
        start = end
    return True


def same_in_any_column_order(
    expected: Rows, found: Rows, *, groups: Sequence[int], tolerance: float
) -> bool:
    """As `same_rows`, when the columns of `found` may stand in another order."""
    if len(expected) != len(found):
        return False
    if not expected:
        return True
    for order in _column_orders(expected, found, tolerance):
        permuted = [tuple(row[column] for column in order) for row in found]
        if same_rows(expected, permuted, groups=groups, tolerance=tolerance):
            return True
    return False


def tie_groups(keys: Rows) -> list[int]:
    """Lengths of the runs of equal keys."""
    lengths: list[int] = []
    previous: Row | None = None
    for key in keys:
        current = identity(key)
        if current == previous:
            lengths[-1] += 1
        else:
            lengths.append(1)
        previous = current
    return lengths


def identity(row: Row) -> Row:
    """What two exactly equal rows share, hashable."""
    return tuple(_identity(value) for value in row)


def _identity(value: Any) -> Any:
    match value:
        case bool():
            return ("bool", value)
        case float():
            return "nan" if math.isnan(value) else value
        case str():
            return ("text", value)
        case None | int() | bytes():
            return value
        case Decimal():
            return "nan" if value.is_nan() else value
        case list() | tuple():
            return ("list", *(_identity(item) for item in value))
        case dict():
            return ("map", *((_identity(k), _identity(v)) for k, v in value.items()))
        case _:
            return (type(value).__name__, str(value))


def _same_bag(expected: Rows, found: Rows, tolerance: float) -> bool:
    if len(expected) != len(found):
        return False
    missing = Counter(identity(row) for row in expected)
    surplus = [row for row in found if not _taken(missing, identity(row))]
    if not surplus:
        return True
    lacking = [row for row in expected if _taken(missing, identity(row))]
    return _agree_nearly(lacking, surplus, tolerance)


def _taken(counts: Counter[Row], key: Row) -> bool:
    if counts[key] <= 0:
        return False
    counts[key] -= 1
    return True


def _agree_nearly(expected: Rows, found: Rows, tolerance: float) -> bool:
    """Whether rows that differ can be paired so that they differ by rounding alone."""
    if not any(_is_inexact(value) for row in (*expected, *found) for value in row):
        return False
    pairs = zip(sorted(expected, key=_coarse), sorted(found, key=_coarse), strict=True)
    apart = [(a, b) for a, b in pairs if not _near_rows(a, b, tolerance)]
    if len(apart) > _MOST_GREEDY:
        return False
    left = [b for _, b in apart]
    for row, _ in apart:
        match = next((i for i, b in enumerate(left) if _near_rows(row, b, tolerance)), None)
        if match is None:
            return False
        left.pop(match)
    return True


def _near_rows(a: Row, b: Row, tolerance: float) -> bool:
    return len(a) == len(b) and all(_near(x, y, tolerance) for x, y in zip(a, b, strict=True))


def _near(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return _near_rows(tuple(a), tuple(b), tolerance)
    if isinstance(a, dict) and isinstance(b, dict):
        return _near_rows(tuple(a), tuple(b), tolerance) and _near_rows(
            tuple(a.values()), tuple(b.values()), tolerance
        )
    if _is_number(a) and _is_number(b) and (isinstance(a, float) or isinstance(b, float)):
        left, right = float(a), float(b)
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return math.isclose(left, right, rel_tol=tolerance, abs_tol=_NEAR_ZERO)
    return bool(_identity(a) == _identity(b))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_inexact(value: Any) -> bool:
    return isinstance(value, float | list | tuple | dict)


def _coarse(row: Row) -> tuple[tuple[str, float, str], ...]:
    """A sort key in which neighbours by rounding are nearly always neighbours."""
    return tuple(_coarse_value(value) for value in row)


def _coarse_value(value: Any) -> tuple[str, float, str]:
    if not _is_number(value):
        is_nested = isinstance(value, list | tuple | dict)
        return (type(value).__name__, 0.0, "" if is_nested else str(value))
    number = float(value)
    if math.isnan(number):
        return ("number", math.inf, "nan")
    rounded = float(f"{number:.6g}")
    return ("number", 0.0 if abs(rounded) < _NEAR_ZERO else rounded, "")


def _column_orders(expected: Rows, found: Rows, tolerance: float) -> Iterator[list[int]]:
    """Orders of found columns in which each one holds what the expected one holds; not all n!."""
    width = len(expected[0])
    whole = [len(expected)]
    candidates: list[list[int]] = []
    columns: defaultdict[int, list[Row]] = defaultdict(list)
    for column in range(width):
        columns[column] = [(row[column],) for row in found]
    for column in range(width):
        wanted = [(row[column],) for row in expected]
        candidates.append(
            [
                other
                for other in range(width)
                if same_rows(wanted, columns[other], groups=whole, tolerance=tolerance)
            ]
        )
    alike = Counter(tuple(others) for others in candidates)
    if any(count > len(others) for others, count in alike.items()):
        return  # more columns of one content than were found
    for tried, order in enumerate(_assignments(candidates, [])):
        if tried >= _MOST_PERMUTATIONS:
            return
        yield order


def _assignments(candidates: Sequence[Sequence[int]], chosen: list[int]) -> Iterator[list[int]]:
    """Every choice of one candidate each, none twice."""
    if len(chosen) == len(candidates):
        yield list(chosen)
        return
    for column in candidates[len(chosen)]:
        if column not in chosen:
            yield from _assignments(candidates, [*chosen, column])
