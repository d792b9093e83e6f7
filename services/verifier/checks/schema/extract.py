"""Which JSON of a completion is meant: the whole of it, or else the last value in it. Pure.

The last value decides even when it is broken: a model that corrects itself must not be judged by
the draft, and a broken document must not be judged by a sound part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from services.verifier.checks.schema.brackets import Brackets, TooTangled
from services.verifier.checks.schema.fences import Segment, segments
from services.verifier.checks.schema.strict import NotJson

_LONGEST = 1024 * 1024
"""Characters of a completion that is JSON and nothing else."""
_LONGEST_SEARCHED = 256 * 1024
"""Characters of one in which JSON has to be looked for, which is slower."""
_SPACE = " \t\r\n\ufeff"
_OPENING = re.compile(r"[{\[]")
_MEANT_AS_JSON = re.compile(
    r"""\{\s*+(?:["'}{\[/]|\w++\s*+:)  # an object, Python's and JavaScript's spelling too
      | \[\s*+["'{\[\]/]             # an array of anything but numbers and constants""",
    re.VERBOSE,
)
_SCALAR = r"(?:-?[\d.][\d.eE+-]*|true|false|null|NaN|-?Infinity)"
_MAYBE_JSON = re.compile(rf"""\[(?![^\[\]{{}}"()]*+\))\s*+{_SCALAR}""")
"""[1] may be JSON or a citation, [0, 1) is an interval."""
_SCALARS = re.compile(rf"\[\s*+{_SCALAR}(?:\s*+,\s*+{_SCALAR})*+\s*+(?:,\s*+)?\]")
_CLOSING = re.compile(r"\s*([}\]])")
_PROSE_LABELS = frozenset({"", "text", "txt", "plain", "plaintext", "markdown", "md", "output"})

Read = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A JSON text and its value."""

    text: str
    value: Any


def find(completion: str, read: Read, *, only_bare: bool = False) -> Found:
    """The JSON that a completion gives as its answer.

    Args:
        read: strict JSON; raises NotJson.
        only_bare: the completion must be JSON and nothing else.

    Raises:
        NotJson: there is none, or the last is broken.
    """
    if len(completion) > _LONGEST:
        raise NotJson(f"more than {_LONGEST} characters")
    bare = completion.strip(_SPACE)
    try:
        return Found(bare, read(bare))
    except NotJson:
        if only_bare:
            raise
    if len(completion) > _LONGEST_SEARCHED:
        raise NotJson(f"not JSON, and too long to look for it: over {_LONGEST_SEARCHED} characters")
    brackets = Brackets(completion)
    try:
        for segment in reversed(segments(completion, brackets)):
            found = _in_segment(completion, segment, brackets, read)
            if found is not None:
                return found
    except TooTangled as cause:
        raise NotJson(str(cause)) from cause
    raise NotJson("no JSON")


def _in_segment(text: str, segment: Segment, brackets: Brackets, read: Read) -> Found | None:
    if segment.label is None:
        return _in_prose(text, segment, brackets, read)
    content = text[segment.start : segment.end].strip(_SPACE)
    is_json = segment.label.startswith("json") or content[:1] in ("{", "[")
    try:
        return Found(content, read(content))
    except NotJson:
        if is_json and content:
            raise
    return _in_prose(text, segment, brackets, read) if segment.label in _PROSE_LABELS else None


def _in_prose(text: str, segment: Segment, brackets: Brackets, read: Read) -> Found | None:
    for span in reversed(list(_spans(text, segment, brackets))):
        content = text[span.start : span.end]
        if span.fault is not None:
            raise NotJson(span.fault)
        try:
            return Found(content, read(content))
        except NotJson:
            if span.is_meant_as_json or _SCALARS.fullmatch(content):
                raise
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """What looks like an outermost value."""

    start: int
    end: int
    is_meant_as_json: bool
    fault: str | None = None


def _spans(text: str, segment: Segment, brackets: Brackets) -> Iterator[_Span]:
    position = segment.start
    in_prose = {"}": 0, "]": 0}  # brackets of the prose itself, still open: "[see {…}]"
    while opening := _OPENING.search(text, position, segment.end):
        start = opening.start()
        is_meant = _MEANT_AS_JSON.match(text, start, segment.end) is not None
        end = None
        if is_meant or _MAYBE_JSON.match(text, start, segment.end):
            end = brackets.end_of(start, segment.end)
        if end is not None:
            fault = _stray_closing(text, end, segment.end, in_prose)
            yield _Span(start=start, end=end, is_meant_as_json=is_meant, fault=fault)
            position = end
        elif is_meant:  # what is inside a broken value is no value of its own
            fault = "JSON that is never closed"
            yield _Span(start=start, end=segment.end, is_meant_as_json=True, fault=fault)
            return
        else:
            in_prose["}" if opening[0] == "{" else "]"] += 1
            position = start + 1


def _stray_closing(text: str, end: int, limit: int, in_prose: dict[str, int]) -> str | None:
    closing = _CLOSING.match(text, end, limit)
    if closing is None:
        return None
    if in_prose[closing[1]]:
        in_prose[closing[1]] -= 1
        return None
    return "JSON with a closing bracket too many"
