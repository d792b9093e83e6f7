"""Mathematical text before any algebra: normal form, numbers, words. Pure.

What can be decided here never reaches sympy.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from services.verifier.checks.final_answer import last_box

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
        "°": r"^\circ ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "≈": r"\approx ",
        "±": r"\pm ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "⟨": r"\langle ",
        "⟩": r"\rangle ",
        "ℝ": r"\mathbb{R} ",
    }
)
_SYNONYMS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])|\\[!,;:]|\\displaystyle(?![a-zA-Z])", ""),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:leqslant|leq)(?![a-zA-Z])", r"\\le"),
        (r"\\(?:geqslant|geq)(?![a-zA-Z])", r"\\ge"),
        (r"\\neq(?![a-zA-Z])|(?<=[^!])!=", r"\\ne"),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
        (r"\\[lr]brace(?![a-zA-Z])", lambda m: r"\{" if m[0] == r"\lbrace" else r"\}"),
        (r"\\q?quad(?![a-zA-Z])", " , "),
        (r"(?<!\\)\\ |~", " "),
        (r"√\s*(\d+|[a-zA-Z]|\([^()]*\))", r"\\sqrt{\1}"),
        (r"\{\s*([-\w+]{1,20})\s*\\over\s+([-\w+]{1,20})\s*\}", r"\\frac{\1}{\2}"),
        (r"\{?\s*([-\w+]{1,20})\s*\\choose\s*([-\w+]{1,20})\s*\}?", r"\\binom{\1}{\2}"),
        (r"(?<![a-zA-Z\\])infinity(?![a-zA-Z])", r"\\infty "),
        (r"\\checkmark(?![a-zA-Z])|^\s*(?:=|\\approx(?![a-zA-Z])|\\sim(?![a-zA-Z]))", ""),
        (r"\\(?:bf|rm|it)(?![a-zA-Z])", ""),
        (r"\s+", " "),
    )
)
"""Ways to write the same; in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number written out plainly."""

    value: Fraction
    is_integer_literal: bool


def plain(text: str) -> str:
    """Normal form: NFKC, one kind of minus, no invisible characters, no outer dollars or stop."""
    text = re.sub(f"[{_SUPERSCRIPTS}]+", lambda m: f"^{{{m[0]}}}", text)
    if not text.isascii():
        text = "".join(_spelled_out(c) for c in text)
    text = unicodedata.normalize("NFKC", text.translate(_TO_PLAIN)).translate(_TO_PLAIN)
    for pattern, replacement in _SYNONYMS:
        text = pattern.sub(replacement, text)
    return _unwrapped(text.strip())


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


_WRAPPERS = (
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("{", "}"),
    ("**", "**"),
    ("`", "`"),
    (r"\text{", "}"),
    (r"\mathbf{", "}"),
    (r"\mathrm{", "}"),
)


def _unwrapped(text: str) -> str:
    while True:
        stripped = text.rstrip(".。, ") if not text.endswith("..") else text
        for opening, closing in _WRAPPERS:
            inner = stripped[len(opening) : -len(closing)]
            is_wrapped = stripped == opening + inner + closing
            if is_wrapped and opening not in inner and closing not in inner:
                stripped = inner.strip()
        if stripped == text:
            return text
        text = stripped


_REPEATING = re.compile(r"(-?)(\d*)\.(\d*)\\(?:overline|bar|overbar|dot)\s*\{\s*(\d{1,50})\s*\}")
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:[ ]\d{3})+|\d+)"
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
    if repeating := _REPEATING.fullmatch(text[:_LONGEST_NUMBER]):
        return _repeating_number(repeating)
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
        decimal = part["decimal"].replace(",", "").replace(" ", "").rstrip(".")
        exponent = int(part["e"] or part["e1"] or part["e2"] or 0)
        value = Fraction(decimal) * Fraction(10) ** exponent
    if part["percent"]:
        value /= 100
    is_literal = part["decimal"] is not None and "." not in part["decimal"]
    return Number(
        value=-value if part["sign"] == "-" else value,
        is_integer_literal=is_literal and value.denominator == 1,
    )


def _repeating_number(match: re.Match[str]) -> Number:
    r"""0.1\overline{6} is 16/90 - 1/90."""
    sign, whole, fixed, repeated = match.groups()
    scale = 10 ** len(fixed)
    value = Fraction(int(whole + fixed or "0"), scale)
    value += Fraction(int(repeated), scale * (10 ** len(repeated) - 1))
    return Number(value=-value if sign else value, is_integer_literal=False)


def with_decimal_comma(text: str) -> Number | None:
    """The number that a text is when its comma is a decimal one (3,14 but not 3,140)."""
    match = re.fullmatch(r"(-?\d+),(\d{1,2}|\d{4,20})", text)
    return as_number(f"{match[1]}.{match[2]}") if match else None


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
    bare = as_bare(text)
    if single := re.fullmatch(r"\s*\(([a-zA-Z])\)\s*", bare):
        bare = single[1]
    bare = bare.strip().strip("\"“”'")
    if re.fullmatch(r"[A-Z]{1,4}", bare):
        return bare.casefold()
    if not re.fullmatch(r"[^\W\d_](?:[^\W\d_]|[ ,.'’&-])*", bare):
        return None
    if not re.search(r"[^\W\d_]{3}|[\u3040-\ud7ff]", bare):
        return None
    if re.fullmatch(r"[b-df-hj-np-tv-z]{3}", bare):
        return None  # xyz
    found = re.sub(r"\s+", " ", bare).strip(" .,").casefold()
    return re.sub(r"^(?:an?|the) (?=.)", "", found)


_OPTION = re.compile(r"(?:\\text\w*\{)?\s*\(([A-H])\)\s*\}?\s*(\S.*)")


def without_option(expected: str, answer: str) -> str:
    """An answer "(C) 15" as its letter or its content, whichever the reference is."""
    match = _OPTION.fullmatch(answer)
    if match is None:
        return answer
    is_letter = re.fullmatch(r"\(?[A-H]\)?", as_bare(expected)) is not None
    return match[1] if is_letter else match[2]


def as_bare(text: str) -> str:
    r"""Without \text{…} around its parts."""
    return re.sub(r"\\(?:text\w*|mathrm|mathbf|mathit|mbox)\s*\{([^{}]*)\}", r"\1", text)
