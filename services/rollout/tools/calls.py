"""The calls in what the policy wrote, in the form of Hermes and Qwen. Pure.

    <tool_call>
    {"name": "lookup", "arguments": {"key": "ab"}}
    </tool_call>

Whatever else stands there is an answer in words to the policy, never an exception.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from rlsd.trajectory import CallOutcome, ToolCall

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_CALL = re.compile(f"{_OPEN}(.*?)({_CLOSE}|$)", re.DOTALL)
_THOUGHT = "</think>"
_FORM = 'write {"name": …, "arguments": {…}} between <tool_call> and </tool_call>'
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that can be read."""

    tool: str
    arguments: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The arguments as JSON text that every wire can carry."""
        return plain(json.dumps(dict(self.arguments), ensure_ascii=False))


def written_calls(text: str) -> list[Call | ToolCall]:
    """The calls of one turn in order; one that cannot be read comes back answered.

    Args:
        text: special tokens included. What is thought aloud before the last `</think>` calls
            nothing.
    """
    return [_read(found[1], found[2]) for found in _CALL.finditer(text.rpartition(_THOUGHT)[2])]


def malformed(tool: str, arguments: str, why: str) -> ToolCall:
    """A call that nobody is asked."""
    return ToolCall(
        tool=plain(tool)[:_LONGEST_NAME],
        arguments=plain(arguments),
        answer=plain(f"error: {why}"),
        outcome=CallOutcome.MALFORMED,
    )


def plain(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON may hold and no wire carries."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _read(body: str, end: str) -> Call | ToolCall:
    if end != _CLOSE:
        return malformed("", body, f"the call is never closed; {_FORM}")
    try:
        value = json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as cause:
        why = str(cause) if isinstance(cause, json.JSONDecodeError) else type(cause).__name__
        return malformed("", body, f"the call is not JSON ({why}); {_FORM}")
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return malformed("", body, f"the call has no name; {_FORM}")
    arguments = value.get("arguments")
    if not isinstance(arguments, dict):
        return malformed(value["name"], body, f"arguments are no JSON object; {_FORM}")
    return Call(tool=value["name"], arguments=arguments)


def _finite(number: str) -> float:
    """1e999 is a number of JSON and none that can be sent on."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:40]} is too large")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
