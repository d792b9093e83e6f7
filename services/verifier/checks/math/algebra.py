"""Whether two expressions are the same mathematics, by math-verify; runs in a child process."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from enum import StrEnum
from fractions import Fraction
from typing import Any

from services.verifier.checks.math.compare import Comparer

_TOLERANCE = 1e-6
_DIGITS = 20
_POINTS = ((0.7321, 1.4427, 2.2361), (-1.3371, 0.5772, -0.8346))
"""Values of variables at which two expressions are compared before they are simplified."""
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What sympy raises on expressions that it cannot handle."""

_IMAGINARY = re.compile(r"(?<![a-zA-Z\\])(?<!_)(?<!_\{)([a-oq-zA-Z]?)i(?![a-zA-Z])|\\mathrm\{i\}")
_ROOT_OF_NEGATIVE = re.compile(r"\\sqrt\s*\{\s*-")
_INDEXED = re.compile(r"_\{?i\b")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*(?:\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree)")

_WARM_UP = (
    ("1/2", r"\frac{2}{4}x"),
    (r"\sqrt{8}", r"2\sqrt[3]{2}+\pi"),
    ("x^2+2x+1", "(x+1)^2"),
    ("a_1 b", "|b| - y"),
    (r"\frac{x^{2}-1}{x-1}", "x+1"),
    (r"x+\frac{1}{2}", r"e^{-x}\cdot 3 \times 4"),
    (r"\sin(x)^2+\cos x^2", r"\log_{2} 8 + \ln x"),
    ("3+4i", r"\sqrt{-4}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&5\end{bmatrix}"),
    ("2x>6", "x>3"),
    ("2x+3y=6", "4x+6y=12"),
    (r"\binom{5}{2}", "5! - (2)(3)"),
)


class Comparison(StrEnum):
    """What there is to say about a reference and an answer."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNREADABLE_ANSWER = "unreadable answer"
    UNREADABLE_REFERENCE = "unreadable reference"
    FAILED = "failed"


class Unreadable(Exception):
    """A text that is no expression; `comparison` says whose."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(comparison.value)
        self.comparison = comparison


def warm_up() -> None:
    """What sympy and the parser compute on first use."""
    for reference, answer_ in _WARM_UP:
        answer({"reference": reference, "answer": answer_})


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The comparison of `reference` and `answer`, with the error's name when it failed."""
    comparer = Comparer(_are_equal, _proportion)
    try:
        is_same = comparer.same(question["reference"], question["answer"])
    except Unreadable as unreadable:
        return {"comparison": unreadable.comparison}
    except _FAILURES as error:
        return {"comparison": Comparison.FAILED, "detail": type(error).__name__}
    return {"comparison": Comparison.EQUAL if is_same else Comparison.DIFFERENT}


def _are_equal(reference: str, given: str) -> bool:
    expected, found = _both(reference, given)
    if _differ_at_points(expected, found):
        return False
    return _verify(expected, found) or _are_equal_if_positive(expected, found)


def _are_equal_if_positive(expected: Any, found: Any) -> bool:
    """With positive variables where logarithms are: ln(a/b) is ln a - ln b only then."""
    import sympy

    both = (expected, found)
    if not all(isinstance(e, sympy.Expr) for e in both) or not any(e.has(sympy.log) for e in both):
        return False
    symbols = expected.free_symbols | found.free_symbols
    positive = {symbol: sympy.Symbol(symbol.name, positive=True) for symbol in symbols}
    return _verify(*(expression.subs(positive) for expression in both))


def _verify(expected: Any, found: Any) -> bool:
    from math_verify import verify

    try:
        is_same = verify(expected, found, timeout_seconds=None, raise_on_error=True)
    except _FAILURES:
        return False  # both were read, and nothing shows that they are equal
    return bool(is_same)


def _proportion(reference: str, given: str) -> Fraction | None:
    """The sign of the constant that the answer's expression is of the reference's, if it is."""
    import sympy

    expected, found = _both(reference, given)
    try:
        ratio = sympy.simplify(found.doit() / expected.doit())
        if ratio.is_number and ratio.is_real and ratio.is_finite and not ratio.is_zero:
            return Fraction(1 if ratio > 0 else -1)
    except _FAILURES:
        return None
    return None


def _both(reference: str, given: str) -> tuple[Any, Any]:
    """Both expressions; raises Unreadable."""
    is_complex = any(_is_complex(text) for text in (reference, given))
    expected = _parsed(reference, is_complex=is_complex)
    if expected is None:
        raise Unreadable(Comparison.UNREADABLE_REFERENCE)
    found = _parsed(given, is_complex=is_complex)
    if found is None:
        raise Unreadable(Comparison.UNREADABLE_ANSWER)
    return expected, found


def _is_complex(text: str) -> bool:
    return not _INDEXED.search(text) and bool(
        _IMAGINARY.search(text) or _ROOT_OF_NEGATIVE.search(text)
    )


@functools.lru_cache(maxsize=1024)
def _parsed(text: str, *, is_complex: bool) -> Any:
    """The expression that a text is; None when it cannot be read, for whatever reason.

    Siblings of a group share their reference, and often their answer.
    """
    from latex2sympy2_extended.latex2sympy2 import (
        ConversionConfig,
        NormalizationConfig,
        latex2sympy,
    )

    if is_complex:
        text = _IMAGINARY.sub(lambda m: rf"{m[1]}\cdot (I)" if m[1] else "(I)", text)
    try:
        return latex2sympy(
            _DEGREES.sub(r"(\\frac{\1\\pi}{180})", text),
            is_real=not is_complex,
            convert_degrees=False,
            normalization_config=NormalizationConfig(
                basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
            ),
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
    except Exception:  # noqa: BLE001  its parser raises bare Exception
        return None


def _differ_at_points(expected: Any, found: Any) -> bool:
    """Whether two expressions have different values somewhere.

    Cheaper than to simplify them, and stricter than math-verify, which rounds to 6 decimals and
    takes 50 % for 50.
    """
    import sympy

    if not (isinstance(expected, sympy.Expr) and isinstance(found, sympy.Expr)):
        return False
    return any(
        abs(a - b) > _TOLERANCE * max(abs(a), abs(b), 1e-12) for a, b in _values(expected, found)
    )


def _values(expected: Any, found: Any) -> Iterator[tuple[complex, complex]]:
    """Values of both where both have one."""
    symbols = sorted(expected.free_symbols | found.free_symbols, key=str)
    for point in _POINTS[: 2 if symbols else 1]:
        at = {s: point[n % len(point)] + 0.1 * (n // len(point)) for n, s in enumerate(symbols)}
        try:
            a, b = (_value(expression, at) for expression in (expected, found))
        except _FAILURES:
            continue
        # Below zero, roots and logarithms have branches: only real values tell there.
        is_telling = point is _POINTS[0] or max(abs(a.imag), abs(b.imag)) < _TOLERANCE
        if is_telling and all(abs(z) < 1e100 for z in (a, b)):
            yield a, b


def _value(expression: Any, at: dict[Any, float]) -> complex:
    return complex(expression.doit().evalf(_DIGITS, subs=at))
