"""Mathematical text before any algebra: the final answer, normal form, numbers, words. Pure.

What can be decided here never reaches sympy.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from services.verifier.checks.final_answer import joined_boxes, last_box
from services.verifier.checks.math.screen import Refused

ANSWER_LIMIT = 20_000
"""Characters from the last box to the end of a completion."""
_TAIL = 2_000
"""Characters at the end of a completion without a box in which an answer is looked for."""
_LONGEST_NUMBER = 1_000
_TOLERANCE = Fraction(1, 10**6)

_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"
_TO_PLAIN = str.maketrans(
    {
        **dict.fromkeys("−–—﹣－‐‑‒", "-"),
        **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff", ""),
        "×": r"\times ",
        "·": r"\cdot ",
        "÷": "/",
        "⁄": "/",
        "π": r"\pi ",
        "∞": r"\infty ",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The final answer of a completion, not yet in normal form."""

    text: str
    is_located: bool
    """The text is the answer and nothing else; otherwise the answer is somewhere in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number written out plainly."""

    value: Fraction
    is_integer_literal: bool


def final_answer(completion: str) -> Answer:
    """What a completion gives as its answer.

    Raises:
        Refused: no answer can be singled out, or it is too long.
    """
    box = last_box(completion)
    if box is None:
        return _unboxed(completion)
    if len(completion) - box.start > ANSWER_LIMIT:
        raise Refused(f"more than {ANSWER_LIMIT} characters from the last box on")
    if box.content is None:
        raise Refused("the last box is not closed")
    contents, has_or = joined_boxes(completion, box)
    if has_or:
        raise Refused("two different boxes joined by or")
    return Answer(text=", ".join(contents), is_located=True)


def _unboxed(completion: str) -> Answer:
    tail = completion[-_TAIL:].strip()
    _, marker, marked = tail.rpartition("####")
    if marker:
        return Answer(text=marked, is_located=True)
    is_bare = "\n" not in tail and len(completion) < 100 and not re.search(r"[^\W\d]{3,}", tail)
    return Answer(text=tail, is_located=is_bare)


def plain(text: str) -> str:
    """Normal form: NFKC, one kind of minus, no invisible characters, no outer dollars or stop."""
    text = re.sub(f"[{_SUPERSCRIPTS}]+", lambda m: f"^{{{m[0]}}}", text)
    if not text.isascii():
        text = "".join(_spelled_out(c) for c in text)
    text = unicodedata.normalize("NFKC", text.translate(_TO_PLAIN)).translate(_TO_PLAIN)
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])|\\[!,;:]", "", text)
    return _unwrapped(re.sub(r"\s+", " ", text).strip())


def unboxed(reference: str) -> str:
    """A reference that is written with a box, without it."""
    box = last_box(reference)
    return reference if box is None or box.content is None else box.content


def _spelled_out(character: str) -> str:
    r"""½ as \frac{1}{2}: NFKC alone would make 31/2 of 3½."""
    decomposition = unicodedata.decomposition(character)
    if decomposition.startswith("<fraction>") and len(decomposition.split()) > 3:
        top, _, bottom = unicodedata.normalize("NFKC", character).partition("⁄")
        return rf"\frac{{{top}}}{{{bottom}}}"
    return character


def _unwrapped(text: str) -> str:
    while True:
        stripped = text.rstrip(".。, ") if not text.endswith("..") else text
        for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
            inner = stripped[len(opening) : -len(closing)]
            if stripped == opening + inner + closing and opening not in inner:
                stripped = inner.strip()
        if stripped == text:
            return text
        text = stripped


_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"""(?P<sign>[+-]?)\s*(?:\\?\$|€|£)?\s*
    (?:(?P<whole>\d+)?\s*\\[dt]?frac\s*
         (?:\{{\s*(?P<top>-?\d+)\s*\}}\s*\{{\s*(?P<bottom>\d+)\s*\}}|(?P<top1>\d)\s*(?P<bottom1>\d))
      |(?:(?P<whole2>\d+)\s+)?(?P<top2>\d+)\s*/\s*(?P<bottom2>\d+)
      |(?P<decimal>{_DECIMAL})
         (?:[eE](?P<e>[+-]?\d{{1,3}})
           |\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{{\s*(?P<e1>[+-]?\d{{1,3}})\s*\}}|(?P<e2>\d{{1,3}})))?
    )\s*(?P<percent>\\?%)?""",
    re.VERBOSE,
)


def as_number(text: str) -> Number | None:
    """The number that a text in normal form is; None when it is anything else."""
    text = text.replace("{,}", ",")
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if match is None:
        return None
    part = match.groupdict()
    top = part["top"] or part["top1"] or part["top2"]
    if top is not None:
        bottom = int(part["bottom"] or part["bottom1"] or part["bottom2"])
        whole = int(part["whole"] or part["whole2"] or 0)
        if bottom == 0 or (whole and top.startswith("-")):
            return None
        value = whole + Fraction(int(top), bottom)
    else:
        decimal = part["decimal"].replace(",", "").rstrip(".")
        exponent = int(part["e"] or part["e1"] or part["e2"] or 0)
        value = Fraction(decimal) * Fraction(10) ** exponent
    if part["percent"]:
        value /= 100
    is_literal = part["decimal"] is not None and "." not in part["decimal"]
    return Number(
        value=-value if part["sign"] == "-" else value,
        is_integer_literal=is_literal and value.denominator == 1,
    )


def same_number(reference: Number, answer: Number) -> bool:
    """Exact for an integer; else to 6 decimals, and to 6 digits of what is smaller than 1."""
    if reference.value == answer.value:
        return True
    if reference.value.denominator == 1:
        return False
    size = min(max(abs(reference.value), abs(answer.value)), Fraction(1))
    return abs(reference.value - answer.value) <= _TOLERANCE * size


def as_words(text: str) -> str | None:
    """The words that a text in normal form is, in small letters; None when it is mathematics.

    As mathematics, words are products of letters, and "tea" equals "eat".
    """
    bare = re.sub(r"\\(?:text\w*|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r"\1", text)
    bare = bare.replace("\\ ", " ").replace("~", " ")
    if not re.fullmatch(r"[^\W\d_](?:[^\W\d_]|[ ,.'’-])*", bare):
        return None
    if not re.search(r"[^\W\d_]{3}|[\u3040-\ud7ff]", bare):
        return None
    return re.sub(r"\s+", " ", bare).strip(" .,").casefold()


def stated_words(text: str) -> str | None:
    """The same of prose: what follows its last "answer is" or "answer:"."""
    stated = re.findall(r"(?i)\banswer(?: is|:)[\s*:]*([^.\n]*)", text)
    return as_words(plain((stated[-1] if stated else text).strip("* \n")))


def is_false_equation(text: str) -> bool:
    """Whether a text is an equation between numbers that does not hold (5=6)."""
    sides = [as_number(side.strip()) for side in text.split("=")] if text.count("=") < 20 else []
    return any(
        left is not None and right is not None and left.value != right.value
        for left, right in pairwise(sides)
    )


def differ_in_brackets(reference: str, answer: str) -> bool:
    """Whether one is a tuple or interval and the other a set, which sympy may call equal."""
    return any(
        a.startswith(("(", "[")) and b.startswith(r"\{")
        for a, b in ((reference, answer), (answer, reference))
    )
