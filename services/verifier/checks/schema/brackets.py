"""Where a bracket closes, with strings left out. Pure, and linear over a whole completion."""

from __future__ import annotations

import re

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_PARTNER = {"}": "{", "]": "["}
_PASSES = 4
"""How often a text may be read over: each bracket that never closes costs up to one pass."""


class TooTangled(Exception):
    """So many brackets never close that nothing can be singled out."""


class Brackets:
    """The brackets of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._allowance = _PASSES * len(text) + 10_000

    def end_of(self, start: int, limit: int) -> int | None:
        """The position after the bracket that closes the one at `start`; None when none does.

        Raises:
            TooTangled: the text has been read over too often.
        """
        opened: list[str] = []
        for token in _TOKEN.finditer(self._text, start, limit):
            bracket = token[0]
            if bracket in ("{", "["):
                opened.append(bracket)
            elif bracket in _PARTNER:
                is_pair = opened.pop() == _PARTNER[bracket]
                if not is_pair or not opened:
                    self._spend(token.end() - start)
                    return token.end() if is_pair else None
        self._spend(limit - start)
        return None

    def _spend(self, num_characters: int) -> None:
        self._allowance -= num_characters
        if self._allowance < 0:
            raise TooTangled("too many brackets that never close")
