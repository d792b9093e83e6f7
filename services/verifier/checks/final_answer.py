r"""Where a completion states its final answer: the last `\boxed{…}` or `\fbox{…}`, and its kin.

Every scan is linear: completions are written by whatever the policy has become.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_BOXES = ("\\boxed", "\\fbox")
_MOST_NESTED = 8
_MOST_JOINED = 8
_LONGEST_GAP = 40
_MARKUP = re.compile(r"[\s$()\[\]\\]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One box; `content` is None when its brace is never closed."""

    start: int
    end: int
    content: str | None


def last_box(text: str) -> Box | None:
    """The last box of a text, with the boxes around it; None when there is none."""
    start, name = _last_start(text, len(text))
    if start < 0:
        return None
    box = _box_at(text, start, len(text), name)
    for _ in range(_MOST_NESTED):
        start, name = _last_start(text, box.start)
        around = _box_at(text, start, len(text), name) if start >= 0 else None
        if around is None or around.content is None or around.end < box.end:
            break
        box = around
    return box


def joined_boxes(text: str, last: Box) -> tuple[list[str], bool]:
    r"""Contents of the last box and of those joined to it from the left, in order, each once.

    Returns:
        The contents, and whether an "or" stands between two of them.
    """
    contents = [last.content or ""]
    has_or = False
    right = last
    while len(contents) < _MOST_JOINED:
        start, name = _last_start(text, right.start)
        left = None if start < 0 else _box_at(text, start, right.start, name)
        if left is None or left.content is None or right.start - left.end > _LONGEST_GAP:
            break
        connector = _MARKUP.sub("", text[left.end : right.start]).casefold()
        if connector not in {"", ",", "and", ",and", "or", ",or"}:
            break
        if left.content not in contents:
            has_or = has_or or connector.endswith("or")
            contents.insert(0, left.content)
        right = left
    return contents, has_or


def _last_start(text: str, limit: int) -> tuple[int, str]:
    """Where the last box before `limit` starts (-1: nowhere), and what it is called."""
    return max((text.rfind(name, 0, limit), name) for name in _BOXES)


def _box_at(text: str, start: int, limit: int, name: str) -> Box:
    position = start + len(name)
    while position < limit and text[position] == " ":
        position += 1
    if position < limit and text[position] != "{":
        token = re.compile(r"\\?\w+").match(text, position, limit)  # \boxed 5
        end = token.end() if token else position
        return Box(start=start, end=end, content=token[0] if token else None)
    depth = 0
    for end in range(position, limit):
        character = text[end]
        if character in "{}" and text[end - 1] != "\\":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return Box(start=start, end=end + 1, content=text[position + 1 : end])
    return Box(start=start, end=limit, content=None)
