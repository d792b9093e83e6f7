r"""How a text is composed: brackets, and the parts between commas. Pure, and linear."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LIST = ("", "")
SET = (r"\{", r"\}")
UNION = (r"\cup", r"\cup")

_SEPARATORS = re.compile(
    r",|;|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|\\(?:text\w*|mbox|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\}"
    r"|\\(?:lor|land|vee|wedge)(?![a-zA-Z])"
)
_TOKEN = re.compile(
    r"\\begin\{|\\end\{|\\\{|\\\}|\\langle(?![a-z])|\\rangle(?![a-z])|\\[a-zA-Z]+|\\.|[()\[\]{}]"
)
_OPENING = frozenset({"(", "[", "{", r"\{", r"\langle", r"\begin{"})
_CLOSING = frozenset({")", "]", "}", r"\}", r"\rangle", r"\end{"})
_THOUSANDS = re.compile(r"(?<!\d)\d{1,3}(?:,\d{3})+(?!\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One expression, or several in brackets of one kind."""

    brackets: tuple[str, str]
    parts: tuple[str, ...]

    @property
    def is_ordered(self) -> bool:
        """A tuple or an interval."""
        return self.brackets not in (LIST, SET, UNION)

    @property
    def is_many(self) -> bool:
        """More than one expression."""
        return self.brackets != LIST or len(self.parts) != 1


def shape(text: str) -> Shape:
    """The outermost composition of a text."""
    unions = split(text, re.compile(r"\\cup(?![a-z])"))
    if len(unions) > 1:
        return Shape(brackets=UNION, parts=tuple(unions))
    parts = split(text)
    if len(parts) > 1 and not _is_reversed_interval(text):
        return Shape(brackets=LIST, parts=_expanded(parts))
    if _is_reversed_interval(text):
        return Shape(
            brackets=("(" if text[0] == "]" else text[0], ")" if text[-1] == "[" else text[-1]),
            parts=tuple(split(text[1:-1])),
        )
    for opening, closing in (("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"), SET):
        inner = text[len(opening) : -len(closing)].strip()
        if text.startswith(opening) and text.endswith(closing) and _is_balanced(inner):
            inside = split(inner)
            if (opening, closing) == SET:
                return Shape(brackets=SET, parts=() if not inner else _expanded(inside))
            if len(inside) > 1:
                return Shape(brackets=(opening, closing), parts=tuple(inside))
    if text.startswith(r"\langle") and text.endswith(r"\rangle"):
        return Shape(brackets=("(", ")"), parts=tuple(split(text[7:-7])))
    if text == r"\emptyset":
        return Shape(brackets=SET, parts=())
    return Shape(brackets=LIST, parts=_expanded([text]))


def split(text: str, separators: re.Pattern[str] = _SEPARATORS) -> list[str]:
    """The parts of a text between separators that stand in no brackets; blank ones are none."""
    if separators is _SEPARATORS and (", " in text or ";" in text):
        text = _THOUSANDS.sub(lambda m: m[0].replace(",", ""), text)
    parts, start = [], 0
    for separator in outside(text, separators):
        parts.append(text[start : separator.start()])
        start = separator.end()
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def outside(text: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """The matches that stand in no brackets."""
    depths = list(_depths(text))
    return [match for match in pattern.finditer(text) if depths[match.start()] == 0]


def without_brackets(text: str) -> str:
    """An expression without the brackets around the whole of it, which cost a parser much."""
    while (text[:1], text[-1:]) in (("(", ")"), ("{", "}")) and text[-2:] != r"\}":
        inner = text[1:-1].strip()
        if not inner or not _is_balanced(inner) or (text[0] == "(" and len(split(inner)) > 1):
            break
        text = inner
    return text


def _depths(text: str) -> Iterator[int]:
    """How deep in brackets each character is."""
    depth, position = 0, 0
    for token in _TOKEN.finditer(text):
        yield from (depth for _ in range(position, token.start()))
        depth += (token[0] in _OPENING) - (token[0] in _CLOSING and depth > 0)
        yield from (depth for _ in range(token.start(), token.end()))
        position = token.end()
        if token[0] in (r"\begin{", r"\end{"):
            depth += 1 if token[0] == r"\begin{" else 0
            name_end = text.find("}", position)
            yield from (depth for _ in range(position, max(position, name_end)))
            position = max(position, name_end)
    yield from (depth for _ in range(position, len(text)))


def _is_balanced(text: str) -> bool:
    """Whether no bracket closes that was not opened in it."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += (token[0] in _OPENING) - (token[0] in _CLOSING)
        if depth < 0:
            return False
    return True


def _is_reversed_interval(text: str) -> bool:
    """]1,2[ and the half-open ones."""
    is_reversed = text.startswith("]") or (text.endswith("[") and text[:1] in "[(]")
    return is_reversed and re.fullmatch(r"[\[\](][^\[\]()]+,[^\[\]()]+[\[\])]", text) is not None


def _expanded(parts: list[str]) -> tuple[str, ...]:
    r"""With a \pm b as its two values."""
    found: list[str] = []
    for part in parts:
        if part.count(r"\pm") == 1 and r"\mp" not in part:
            found += [part.replace(r"\pm", sign).strip().lstrip("+ ") for sign in "+-"]
        else:
            found.append(part)
    return tuple(found)
