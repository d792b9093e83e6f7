"""Strict JSON: what every reader of a document would understand alike, and nothing else. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Literal, NoReturn

NESTING_LIMIT = 512
"""Half of Python's own limit, so that the verdict does not depend on who calls."""

DuplicateKeys = Literal["refuse", "last"]


class NotJson(Exception):
    """The text is not strict JSON; the message says why."""


def _constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotJson("a number out of range")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotJson("a key twice in one object")
    return members


_READERS: dict[DuplicateKeys, Callable[[str], Any]] = {
    "refuse": json.JSONDecoder(
        parse_float=_finite, parse_constant=_constant, object_pairs_hook=_unique
    ).decode,
    "last": json.JSONDecoder(parse_float=_finite, parse_constant=_constant).decode,
}


def read(text: str, duplicate_keys: DuplicateKeys = "refuse") -> Any:
    """The value of a whole text.

    Raises:
        NotJson: NaN, a number out of range or of more than 4300 digits, a key twice, more than 512
            levels, half a surrogate pair, or no JSON at all.
    """
    # Brackets in strings count too: only a text with many of either can be nested deep.
    if text.count("[") + text.count("{") > NESTING_LIMIT and depth(text) > NESTING_LIMIT:
        raise NotJson(f"nested more than {NESTING_LIMIT} deep")
    try:
        value = _READERS[duplicate_keys](text)
    except json.JSONDecodeError as cause:
        raise NotJson(f"not JSON: {cause.msg} at character {cause.pos}") from cause
    except ValueError as cause:  # Python's own limit on digits
        raise NotJson("a number of too many digits") from cause
    if "\\u" in text or not text.isascii():
        _refuse_half_surrogates(value)
    return value


def depth(text: str) -> int:
    """Levels of nesting of a text whose strings are well formed, in one pass."""
    level = deepest = 0
    is_in_string = is_escaped = False
    for character in text:
        if is_in_string:
            if is_escaped:
                is_escaped = False
            elif character == "\\":
                is_escaped = True
            elif character == '"':
                is_in_string = False
        elif character == '"':
            is_in_string = True
        elif character in "[{":
            level += 1
            deepest = max(deepest, level)
        elif character in "]}":
            level -= 1
    return deepest


def _refuse_half_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as cause:
        raise NotJson("half a surrogate pair") from cause
