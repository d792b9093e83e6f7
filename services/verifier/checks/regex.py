"""`regex`: the completion matches a pattern, in time linear in its length (RE2).

With a group named `answer`, what the last match captures must equal the reference.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections import deque
from typing import Any, Literal

import re2
from pydantic import Field

from rlsd.trajectory import Verdict
from services.verifier.checks.check import InvalidTask, Params, Task, normalized, scored

_ANSWER = "answer"
_LARGEST_PROGRAM = 10_000
"""Instructions of a compiled pattern."""
_MOST_WORK = 50_000_000
"""Instructions times characters: a second or two when RE2 has no room for its automaton."""
_WORK_AT_ONCE = 1_000_000
"""What does not hold up the other checks; more goes to a thread."""
_BACKTRACKS = re.compile(r"\\[1-9]|\\k|\(\?(?:[=!>]|<[=!]|P=)")


class RegexParams(Params):
    """The pattern and how it is applied."""

    pattern: str = Field(min_length=1, max_length=10_000)
    """RE2 syntax."""
    mode: Literal["search", "fullmatch"] = "search"
    """Anywhere in the completion, or all of it."""
    ignore_case: bool = False
    """Match without regard to case."""
    dot_all: bool = False
    """The dot matches a line's end too."""
    multi_line: bool = False
    """^ and $ match at each line."""


class RegexCheck:
    """A match by RE2."""

    async def __call__(self, task: Task[RegexParams], completion: str) -> Verdict:
        """1 for a match (and an equal answer, if the pattern has that group), else 0."""
        params = task.params
        flags = f"{'i' * params.ignore_case}{'s' * params.dot_all}{'m' * params.multi_line}"
        compiled = _compiled(params.pattern, flags)
        has_answer = _ANSWER in compiled.groupindex
        if has_answer and not task.reference.strip():
            raise InvalidTask("the reference is empty; give what the group 'answer' must capture")
        work = compiled.programsize * len(completion)
        if work > _MOST_WORK:
            return scored(0.0, "too long for this pattern")
        text = completion.encode("utf-8", "replace").decode("utf-8")  # RE2 reads UTF-8
        if work > _WORK_AT_ONCE:
            match = await asyncio.to_thread(_last_match, compiled, text, params.mode)
        else:
            match = _last_match(compiled, text, params.mode)
        if match is None:
            return scored(0.0, "no match")
        if not has_answer:
            return scored(1.0, "match")
        is_equal = normalized(match[_ANSWER] or "") == normalized(task.reference)
        return scored(float(is_equal), "equal" if is_equal else "different")


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str, flags: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(f"(?{flags}:{pattern})" if flags else pattern, options=options)
    except (re2.error, UnicodeEncodeError) as cause:
        what = cause.args[0]
        words = what.decode("utf-8", "replace") if isinstance(what, bytes) else str(cause)
        if _BACKTRACKS.search(pattern):
            words += "; RE2 has no back-references and no look-around"
        raise InvalidTask(f"params of 'regex': pattern: {words}") from cause
    if compiled.programsize > _LARGEST_PROGRAM:
        raise InvalidTask("params of 'regex': pattern: too large; use smaller counts")
    return compiled


def _last_match(compiled: Any, text: str, mode: str) -> Any:
    if mode == "fullmatch":
        return compiled.fullmatch(text)
    if _ANSWER not in compiled.groupindex:
        return compiled.search(text)
    return next(iter(deque(compiled.finditer(text), maxlen=1)), None)
