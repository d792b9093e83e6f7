"""`choice`: the option that a completion settles on is the reference.

The first of these that names an option decides, and in it the last mention: a box, "answer is B",
"(B)", an option that stands alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from string import ascii_uppercase

from pydantic import Field

from rlsd.trajectory import Verdict
from services.verifier.checks.check import InvalidTask, Params, Task, normalized, scored
from services.verifier.checks.final_answer import joined_boxes, last_box

_WINDOW = 20_000
"""Characters at the end of a completion that are searched."""
_DECORATION = re.compile(r"\\(?:boxed|text\w*|mathrm|mathbf)|[\s{}()\[\]$*\"'\\]+")
_CONNECTORS = frozenset({"", ",", "/", "or", "and", "&", ",or", ",and", "and/or"})


class ChoiceParams(Params):
    """The options."""

    choices: list[str] | None = Field(default=None, min_length=2)
    """Labels or texts of the options; without them, the single letters A to Z."""


class ChoiceCheck:
    """Compares the chosen option with the reference, without regard to case."""

    async def __call__(self, task: Task[ChoiceParams], completion: str) -> Verdict:
        """1 for the right option; 0 for another, for none and for two at once."""
        reference, params = task.reference, task.params
        options = {_label(choice): choice for choice in params.choices or ascii_uppercase}
        expected = _label(reference)
        if "" in options:
            raise InvalidTask("params of 'choice': choices: one is empty; remove it")
        if expected not in options:
            remedy = "it must be one of params.choices" if params.choices else "give params.choices"
            raise InvalidTask(f"the reference {reference[:40]!r} is no option; {remedy}")
        chosen = _chosen(normalized(completion[-_WINDOW:]), list(options.values()))
        if not chosen:
            return scored(0.0, "no option chosen")
        if len(chosen) > 1:
            return scored(0.0, f"ambiguous: {' and '.join(sorted(chosen))}")
        return scored(float(expected in chosen), f"chose {next(iter(chosen))}")


def _label(option: str) -> str:
    """An option as it is compared: no parentheses or full stop around it, no case."""
    return normalized(option).strip("().:*").strip().casefold()


def _chosen(text: str, options: Sequence[str]) -> set[str]:
    """The labels of the final choice: one, none, or several when it is ambiguous."""
    box = last_box(text)
    if box is not None and box.content is not None:
        contents, _ = joined_boxes(text, box)
        option = re.compile(rf"(?<!\w){_either_case(options)}")
        return {_label(m["option"]) for content in contents for m in option.finditer(content)}
    standing, stated = _standing(options), _stated(options)
    for pattern in (
        rf"(?i:\b(?:answer|choice|option)(?:\s+is|\s*:))[\s\W]{{0,8}}{stated}",
        rf"\(\s*{_either_case(options)}\s*\)",
        rf"(?<![\w'’]){standing}(?!['’]\w)",
    ):
        mentions = list(re.finditer(pattern, text))
        if mentions:
            rest = re.finditer(_beside(options), text[mentions[-1].end("option") :])
            return _joined_left(text, mentions) | _joined_right(text, mentions[-1], rest)
    return set()


def _alternatives(options: Sequence[str]) -> str:
    # Longer options first, so that "not given" is not read as "not".
    return "|".join(re.escape(normalized(o)) for o in sorted(options, key=len, reverse=True))


def _either_case(options: Sequence[str]) -> str:
    return rf"(?P<option>(?i:{_alternatives(options)}))(?!\w)"


def _standing(options: Sequence[str]) -> str:
    """A letter that stands alone counts in capitals and before no word ("A cat", "I think")."""
    if all(len(option) == 1 for option in options):
        capital = _alternatives([option.upper() for option in options])
        return rf"(?P<option>{capital})(?!\w)(?!\s+(?!or\b|and\b|is\b)[a-z])"
    return _either_case(options)


def _stated(options: Sequence[str]) -> str:
    """After "answer is" a small letter counts too when nothing follows it."""
    if all(len(option) == 1 for option in options):
        capital = _alternatives([option.upper() for option in options])
        small = rf"(?i:{_alternatives(options)})(?=\s*(?:[.,;:)\]}}*$]|$))"
        return rf"(?P<option>(?:{capital})(?!\w)|{small})"
    return _either_case(options)


def _beside(options: Sequence[str]) -> str:
    """What counts beside a choice already made: "A or B because", "(a), (b)", not "A, I think"."""
    if all(len(option) == 1 for option in options):
        capital = _alternatives([option.upper() for option in options])
        bracketed = rf"(?<=[({{])(?i:{_alternatives(options)})(?=[)}}])"
        return rf"(?<!\w)(?!I\s+[a-z])(?P<option>(?:{capital})(?!\w)|{bracketed})"
    return rf"(?<!\w){_either_case(options)}"


def _joined_left(text: str, mentions: Sequence[re.Match[str]]) -> set[str]:
    """Labels of the last mention and of those joined to it from the left ("A or B")."""
    labels = {_label(m["option"]) for m in mentions[-1:]}
    for left, right in reversed(list(pairwise(mentions))):
        if not _is_connector(text[left.end("option") : right.start("option")]):
            break
        labels.add(_label(left["option"]))
    return labels


def _joined_right(text: str, last: re.Match[str], mentions: Iterator[re.Match[str]]) -> set[str]:
    """Labels of the mentions that are joined to the last one from the right."""
    start = end = last.end("option")
    labels: set[str] = set()
    for mention in mentions:
        if not _is_connector(text[end : start + mention.start("option")]):
            break
        labels.add(_label(mention["option"]))
        end = start + mention.end("option")
    return labels


def _is_connector(gap: str) -> bool:
    return len(gap) <= 40 and _DECORATION.sub("", gap).casefold() in _CONNECTORS
