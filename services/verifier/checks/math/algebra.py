"""Whether two expressions are the same mathematics, by math-verify; runs in a child process."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

_TOLERANCE = 1e-6
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What sympy raises on expressions that it cannot handle."""

_WARM_UP = (
    ("1/2", r"\frac{2}{4}"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"\{1, 2\}", "2, 1"),
    ("(1, 2]", "(1, 2]"),
    ("x > 3", "3 < x"),
    ("x = 5", "5"),
    (r"\sin(x)^2+\cos(x)^2", "1"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
)


class Comparison(StrEnum):
    """What there is to say about a reference and an answer."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNREADABLE_ANSWER = "unreadable answer"
    UNREADABLE_REFERENCE = "unreadable reference"
    FAILED = "failed"


def warm_up() -> None:
    """What sympy and the parser compute on first use."""
    for reference, answer_ in _WARM_UP:
        _compare(reference, answer_, is_located=True)


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The comparison of `reference` and `answer`, with the error's name when it failed."""
    try:
        return {"comparison": _compare(**question)}
    except _FAILURES as error:
        return {"comparison": Comparison.FAILED, "detail": type(error).__name__}


def _compare(reference: str, answer: str, *, is_located: bool) -> Comparison:
    from math_verify import verify

    expected = _parse(rf"\boxed{{{reference}}}")
    if not expected:
        return Comparison.UNREADABLE_REFERENCE
    given = _parse(rf"\boxed{{{answer}}}") if is_located else _parse(answer, in_prose=True)
    if not given:
        return Comparison.UNREADABLE_ANSWER
    if not verify(expected, given, timeout_seconds=None, raise_on_error=True):
        return Comparison.DIFFERENT
    return Comparison.DIFFERENT if _are_far_apart(expected[0], given[0]) else Comparison.EQUAL


def _parse(text: str, *, in_prose: bool = False) -> list[Any]:
    """The expression in a text; none when it cannot be read, for whatever reason."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    latex = LatexExtractionConfig(boxed_match_priority=0)
    kinds = [latex, ExprExtractionConfig()] if in_prose else [latex]
    try:
        found = parse(
            text, kinds, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True
        )
    except _FAILURES:
        return []
    return list(found)


def _are_far_apart(reference: Any, answer: Any) -> bool:
    """Whether two numbers differ although math-verify, which rounds to 6 decimals, said equal.

    It also takes 50 % for 50.
    """
    if not (getattr(reference, "is_number", False) and getattr(answer, "is_number", False)):
        return False
    try:
        a, b = complex(reference.doit().evalf(20)), complex(answer.doit().evalf(20))
    except (TypeError, ValueError, OverflowError):
        return False
    size = max(abs(a), abs(b))
    return abs(a - b) > _TOLERANCE * (1 + 1e-9) * min(size, 1.0)
