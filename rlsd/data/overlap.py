"""Whether prompts to measure on are also trained on. Pure."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

from rlsd.trajectory import Prompt


def overlap(train: Iterable[Prompt], held_out: Iterable[Prompt]) -> int:
    """How many held-out prompts are also training prompts.

    Equal means: the same text after Unicode compatibility, letter case and white space are evened
    out, and the same images. System messages do not count, since the same task is often asked under
    another one. A rephrased or renumbered task is not found.
    """
    trained = {_fingerprint(prompt) for prompt in train}
    return sum(_fingerprint(prompt) in trained for prompt in held_out)


def _fingerprint(prompt: Prompt) -> bytes:
    """A digest: a million of them need less memory than the texts."""
    turns = [m for m in prompt.messages if m.role != "system"]
    parts = [f"{m.role}:{_normalised(m.content)}" for m in turns] + list(prompt.images)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
