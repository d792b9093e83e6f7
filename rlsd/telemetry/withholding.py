"""What a run is about stays out of its logs: prompts, completions, references, privileged context.

An error may quote them, whoever wrote it: a server that refuses a request, a library, another
service. So not the authors are trusted: what is logged while a group is in hand loses every piece
that also stands in the group's texts. Letters and digits are compared, so that neither line breaks
nor escapes (of JSON, of Python, of both) hide a quote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

SHORTEST_QUOTE = 12
"""Letters and digits. Fewer in common are chance."""
SHORTEST_TEXT = 5
"""A text shorter than a quote is withheld where all of it is quoted, from this length on: a shorter
one says nothing by itself."""
GAP = "[…]"

_STEP = SHORTEST_QUOTE // 2
"""Of every quote one piece of this length begins at a multiple of it in the text: these are looked
up, and only what they hint at is searched for. A group may have megabytes of text."""

_CODE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")
_NO_LETTER = re.compile(r"\\+[nrtbf0]|(?:[^\w\\]|_)+|\\")
_ESCAPED = re.compile(r"\\+(?:u(?P<u>[0-9a-fA-F]{4})|x(?P<x>[0-9a-fA-F]{2})|[nrtbf0])|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """The letters and digits of a text, and where in it each stands."""

    letters: str
    spans: list[tuple[int, int]]

    @classmethod
    def of(cls, text: str) -> _Skeleton:
        letters, spans = [], []
        for found in _ESCAPED.finditer(text):
            code = found["u"] or found["x"]
            letter = chr(int(code, 16)) if code else found[0]
            if len(letter) == 1 and letter.isalnum():
                letters.append(letter)
                spans.append(found.span())
        return cls("".join(letters), spans)


class Withholding:
    """Cuts quotes of some texts out of words."""

    def __init__(self, texts: Iterable[str]) -> None:
        found = {_letters(text) for text in texts}
        self._letters = "\n".join(found)
        self._hints = {
            letters[at : at + _STEP] for letters in found for at in range(0, len(letters), _STEP)
        }
        self._short = [x for x in found if SHORTEST_TEXT <= len(x) < SHORTEST_QUOTE]

    def __call__(self, words: str) -> str:
        """The words, with a gap for each quote."""
        skeleton = _Skeleton.of(words)
        kept: list[str] = []
        told = 0
        for first, last in _merged(sorted(self._quotes(skeleton.letters))):
            start, end = skeleton.spans[first][0], skeleton.spans[last - 1][1]
            kept += [words[told:start], GAP]
            told = end
        return "".join([*kept, words[told:]])

    def _quotes(self, letters: str) -> Iterator[tuple[int, int]]:
        at = 0
        while at + SHORTEST_QUOTE <= len(letters):
            length = self._quote_at(letters, at)
            if length:
                yield at, at + length
            at += max(1, length - SHORTEST_QUOTE + 1)
        for short in self._short:
            at = letters.find(short)
            while at >= 0:
                yield at, at + len(short)
                at = letters.find(short, at + 1)

    def _quote_at(self, letters: str, at: int) -> int:
        """How many letters from here on stand in one of the texts; 0 when it is no quote."""
        piece = letters[at : at + SHORTEST_QUOTE]
        if not any(piece[n : n + _STEP] in self._hints for n in range(_STEP + 1)):
            return 0
        there = self._letters.find(piece)
        if there < 0:
            return 0
        length = SHORTEST_QUOTE
        rest = zip(letters[at + length :], self._letters[there + length :], strict=False)
        return length + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], rest))


def _letters(text: str) -> str:
    """The same letters as `_Skeleton.of` finds, at the speed of regular expressions."""
    decoded = _CODE.sub(lambda code: chr(int(code[1] or code[2], 16)), text)
    return _NO_LETTER.sub("", decoded)


def _merged(quotes: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Quotes that touch, as one."""
    start = end = -1
    for first, last in quotes:
        if first > end:
            if end > 0:
                yield start, end
            start = first
        end = max(end, last)
    if end > 0:
        yield start, end
