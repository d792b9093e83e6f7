"""What a run is about stays out of its logs: prompts, completions, references, privileged context.

An error may quote them, whoever wrote it: a server that refuses a request, a library, another
service. So not the authors are trusted: what is logged while a group is in hand loses every piece
that also stands in the group's texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

SHORTEST_QUOTE = 12
"""Characters. Fewer in common are chance, or a number that says nothing by itself."""
SHORTEST_TEXT = 5
"""A text shorter than a quote is withheld where all of it is quoted, from this length on."""
GAP = "[…]"


class Withholding:
    """Cuts quotes of some texts out of words."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Prepare; the texts count as they are and as escapes leave them."""
        forms = {form for text in texts for form in _forms(text)}
        self._pieces = {
            form[at : at + SHORTEST_QUOTE]
            for form in forms
            for at in range(len(form) - SHORTEST_QUOTE + 1)
        }
        self._short = [f for f in forms if SHORTEST_TEXT <= len(f) < SHORTEST_QUOTE]

    def __call__(self, words: str) -> str:
        """The words, with a gap for each quote."""
        quoted = [False] * len(words)
        for start, end in self._quotes(words):
            quoted[start:end] = [True] * (end - start)
        kept: list[str] = []
        for at, character in enumerate(words):
            if not quoted[at]:
                kept.append(character)
            elif at == 0 or not quoted[at - 1]:
                kept.append(GAP)
        return "".join(kept)

    def _quotes(self, words: str) -> Iterator[tuple[int, int]]:
        for at in range(len(words) - SHORTEST_QUOTE + 1):
            if words[at : at + SHORTEST_QUOTE] in self._pieces:
                yield at, at + SHORTEST_QUOTE
        for text in self._short:
            at = words.find(text)
            while at >= 0:
                yield at, at + len(text)
                at = words.find(text, at + 1)


def _forms(text: str) -> set[str]:
    """How a text looks in an error: as it is, on one line, in Python's and in JSON's quotes."""
    plain, escaped = json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]
    return {text, " ".join(text.split()), repr(text)[1:-1], plain, escaped}
