"""`python -m services.verifier.checks.math_child`: algebra in a process that may be killed.

Sympy can compute for hours on ten characters and no signal or thread stops it, so it runs here,
one question at a time, and the service kills the process at the deadline. Standard output is the
channel; nothing else can write to it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
import warnings
from json import loads
from typing import Any, BinaryIO

from services.verifier.checks.math_frames import HEADER, Comparison, body_length, pack

ADDRESS_SPACE_BYTES = 2 * 1024**3
_PR_SET_PDEATHSIG = 1
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


def main() -> None:
    """Answer questions from standard input until it ends."""
    _confine()
    channel = _take_standard_output()
    for reference, answer in _WARM_UP:
        _compare(reference, answer, is_located=True)
    channel.write(pack({"ready": True}))
    while header := sys.stdin.buffer.read(HEADER.size):
        question = loads(sys.stdin.buffer.read(body_length(header)))
        channel.write(pack(_reply(**question)))


def _confine() -> None:
    """No more than 2 GiB, no core files, and no life after the service's."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the service decides when a check ends
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def _take_standard_output() -> BinaryIO:
    channel = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return channel


def _reply(*, reference: str, answer: str, is_located: bool) -> dict[str, Any]:
    try:
        return {"comparison": _compare(reference, answer, is_located=is_located)}
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


if __name__ == "__main__":
    main()
