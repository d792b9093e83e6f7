"""`math`: the final answer of the completion is mathematically equal to the reference.

Numbers and words are compared here, exactly; only what needs algebra goes to a child process.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from rlsd.errors import VerifierError
from rlsd.trajectory import Verdict, VerdictOutcome
from services.verifier.checks.check import InvalidTask, Kind, Params, Setup, Task, scored
from services.verifier.checks.math import text
from services.verifier.checks.math.algebra import Comparison
from services.verifier.checks.math.screen import Refused, screen
from services.verifier.children.pool import ChildPool

_ALGEBRA = "services.verifier.checks.math.algebra"
"""What the children of the pool run."""


@contextlib.asynccontextmanager
async def open_math(setup: Setup) -> AsyncIterator[Kind]:
    """The kind, with its children warm."""
    section = setup.section
    async with ChildPool(
        _ALGEBRA, num_children=section.workers, timeout_s=section.timeout_s
    ) as pool:
        yield Kind(MathCheck(pool), MathParams)


class MathParams(Params):
    """None yet: the comparison has no choices."""


class MathCheck:
    """Mathematical equality by math-verify, behind exact comparisons and refusals."""

    def __init__(self, pool: ChildPool) -> None:
        self._pool = pool

    async def __call__(self, task: Task[MathParams], completion: str) -> Verdict:
        """1 for an equal answer; 0 for another, an unreadable one or a refused one."""
        expected = _readable(task.reference)
        try:
            found = text.final_answer(completion)
            answer = text.plain(found.text)
            screen(answer)
        except Refused as refusal:
            return scored(0.0, f"refused: {refusal}")
        if not answer:
            return scored(0.0, "no answer")
        verdict = _without_algebra(expected, answer, is_located=found.is_located)
        if verdict is not None:
            return verdict
        return await self._algebra(expected, answer, is_located=found.is_located)

    async def _algebra(self, expected: str, answer: str, *, is_located: bool) -> Verdict:
        try:
            reply = await self._pool.ask(
                {"reference": expected, "answer": answer, "is_located": is_located}
            )
        except TimeoutError:
            return Verdict(outcome=VerdictOutcome.TIMEOUT, reason="algebra took too long")
        match reply["comparison"]:
            case Comparison.EQUAL:
                return scored(1.0, "equal")
            case Comparison.DIFFERENT:
                return scored(0.0, "different")
            case Comparison.UNREADABLE_ANSWER:
                return scored(0.0, "no answer that can be read as mathematics")
            case Comparison.UNREADABLE_REFERENCE:
                raise InvalidTask(f"the reference {expected[:80]!r} cannot be read as mathematics")
            case _:
                raise VerifierError(f"sympy cannot compare the two: {reply['detail']}")


def _readable(reference: str) -> str:
    """The reference in normal form; raises InvalidTask when nothing can equal it."""
    expected = text.plain(text.unboxed(reference))
    if not expected:
        raise InvalidTask("the reference is empty; give the expected answer")
    if len(expected) > text.ANSWER_LIMIT:
        raise InvalidTask(f"the reference has more than {text.ANSWER_LIMIT} characters")
    try:
        screen(expected)
    except Refused as refusal:
        raise InvalidTask(f"the reference has {refusal}") from refusal
    return expected


def _without_algebra(expected: str, answer: str, *, is_located: bool) -> Verdict | None:
    """The verdict that follows from the texts alone, if one does."""
    words = text.as_words(expected)
    if words is not None:
        given = text.as_words(answer) if is_located else text.stated_words(answer)
        return scored(float(given == words), "compared as words")
    if not is_located:
        return None
    if text.is_false_equation(answer):
        return scored(0.0, "an equation that does not hold")
    if text.differ_in_brackets(expected, answer):
        return scored(0.0, "different brackets")
    left, right = text.as_number(expected), text.as_number(answer)
    if left is None or right is None:
        return None
    return scored(float(text.same_number(left, right)), "compared as numbers")
