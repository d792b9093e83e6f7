"""The program in a completion: the last fenced block of its language. Pure, linear."""

from __future__ import annotations

import re
from typing import Final

_FENCE: Final = re.compile(r"^[ \t]{0,12}(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n`]*$", re.MULTILINE)
LABELS: Final[dict[str, frozenset[str]]] = {
    "python": frozenset({"python", "py", "python3", "python2", "ipython"}),
    "c": frozenset({"c", "h"}),
    "cpp": frozenset({"cpp", "c++", "cc", "cxx", "hpp"}),
    "javascript": frozenset({"javascript", "js", "node", "nodejs", "mjs"}),
    "java": frozenset({"java"}),
    "go": frozenset({"go", "golang"}),
    "bash": frozenset({"bash", "sh", "shell", "zsh"}),
}


def program_of(completion: str, language: str) -> str:
    """The last block labelled as the language, else the last without a label, else the last.

    A completion without a fence is the program itself.
    """
    blocks = _blocks(completion)
    if not blocks:
        return completion
    for wanted in (LABELS[language], frozenset({""})):
        found = [text for label, text in blocks if label in wanted]
        if found:
            return found[-1]
    return blocks[-1][1]


def _blocks(text: str) -> list[tuple[str, str]]:
    """Label and content of each fenced block; one that is never closed reaches to the end."""
    found = []
    position = 0
    while opening := _FENCE.search(text, position):
        mark = opening[1]
        start = min(opening.end() + 1, len(text))
        closing = _closing(text, start, mark)
        end = len(text) if closing is None else closing.start()
        found.append((opening[2].casefold(), text[start:end]))
        position = len(text) if closing is None else closing.end()
    return found


def _closing(text: str, start: int, mark: str) -> re.Match[str] | None:
    pattern = re.compile(
        rf"^[ \t]{{0,12}}{re.escape(mark[0])}{{{len(mark)},}}[ \t]*\r?$", re.MULTILINE
    )
    return pattern.search(text, start)
