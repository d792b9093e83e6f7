"""A completion as its code fences and the prose between them. Pure, linear."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.verifier.checks.schema.brackets import Brackets

_MARK = re.compile(r"`{3,}|~{3,}")
_LABEL = re.compile(r"[\w+#.-]*")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a completion."""

    start: int
    end: int
    label: str | None
    """What a fence says it contains, in small letters; None for prose."""


def segments(text: str, brackets: Brackets) -> list[Segment]:
    """The parts in order; a fence that is never closed reaches to the end."""
    found = []
    position = 0
    while opening := _MARK.search(text, position):
        found.append(Segment(start=position, end=opening.start(), label=None))
        fence, position = _fence(text, opening, brackets)
        found.append(fence)
    found.append(Segment(start=position, end=len(text), label=None))
    return found


def _fence(text: str, opening: re.Match[str], brackets: Brackets) -> tuple[Segment, int]:
    """The fence and where the text goes on after it."""
    label, start = _label(text, opening.end())
    first = _match_end(_SPACE, text, start)
    # A string inside the JSON may itself contain a fence.
    json_end = brackets.end_of(first, len(text)) if text[first : first + 1] in ("{", "[") else None
    closing = re.compile(re.escape(opening[0])).search(text, json_end or start)
    if closing is None:
        return Segment(start=start, end=len(text), label=label), len(text)
    return Segment(start=start, end=closing.start(), label=label), _match_end(
        re.compile(f"{opening[0][0]}*"), text, closing.end()
    )


def _label(text: str, start: int) -> tuple[str, int]:
    """The label and where the content begins: ```json, and ```{…} without one."""
    end = _match_end(_LABEL, text, start)
    if end < len(text) and not text[end].isspace() and text[end] not in "{[":
        return "", start  # ```"text"```: content, no label
    return text[start:end].casefold(), end


def _match_end(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return start if match is None else match.end()
