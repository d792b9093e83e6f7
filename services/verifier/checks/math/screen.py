"""Refusals: what sympy would evaluate without end is recognised before it sees it. Pure.

The deadline stands behind this; a refusal is cheaper, and says that the text was at fault.
"""

from __future__ import annotations

import re

_NESTING_LIMIT = 100
_DIGITS_LIMIT = 1_000
_EXPONENT_LIMIT = 100_000
_OPERAND_LIMIT = 60
"""Characters of an exponent that are looked at; the deadline is for what hides behind them."""
_FACTORIAL_LIMIT = 5_000


class Refused(Exception):
    """The text is not evaluated: no answer can be singled out, or it could be a bomb."""


def screen(text: str) -> None:
    """Refuse what sympy would evaluate without end.

    Raises:
        Refused: the text is nested too deep, or an exponent or factorial is too large.
    """
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    if deepest > _NESTING_LIMIT:
        raise Refused(f"nested {deepest} deep, {_NESTING_LIMIT} allowed")
    if re.search(rf"\d{{{_DIGITS_LIMIT}}}", text):
        raise Refused(f"a number of {_DIGITS_LIMIT} digits or more")
    _screen_exponents(text.replace("**", "^").replace(" ", ""))
    _screen_factorials(text.replace(" ", ""))


def _screen_exponents(text: str) -> None:
    for match in re.finditer(r"\^", text):
        operand = text[match.end() : match.end() + _OPERAND_LIMIT]
        if operand[:1] in ("{", "("):
            operand = re.sub(r"[{}()]", "", _first_group(operand))
        tower = re.match(r"\d+(?:\^[{(]*\d+)*", operand)
        if tower and _tower_exceeds([int(n) for n in re.findall(r"\d+", tower[0])]):
            raise Refused(f"an exponent over {_EXPONENT_LIMIT}")


def _first_group(text: str) -> str:
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "{(") - (character in "})")
        if depth == 0:
            return text[: position + 1]
    return text


def _tower_exceeds(numbers: list[int]) -> bool:
    """Whether a^(b^(c…)) is over the limit; the tower is never computed."""
    value = 1
    for base in reversed(numbers):
        if base > _EXPONENT_LIMIT or (base > 1 and value > _EXPONENT_LIMIT.bit_length()):
            return True
        value = base**value
    return value > _EXPONENT_LIMIT


def _screen_factorials(text: str) -> None:
    for number in re.finditer(r"(\d{1,9})[)}\]]*!", text):
        if int(number[1]) > _FACTORIAL_LIMIT:
            raise Refused(f"a factorial over {_FACTORIAL_LIMIT}")
    for number in re.finditer(r"(\d{1,9})[)}\]]*!(?:[)}\]]*!)+", text):
        if int(number[1]) > 7 or number[0].count("!") > 2:
            raise Refused("a factorial of a factorial")
