"""What every reader yields: a located row, or a rejection where not even a row could be read."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A record that cannot be used."""

    file: str
    """Path, or the URI of a catalogue."""
    line: int
    """From 1: line of a .jsonl file, elsewhere the number of the record."""
    reason: str
    """What is wrong and the remedy."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedRow:
    """Values as they were read, not checked."""

    file: str
    line: int
    values: object


Rows = Generator[LocatedRow | Rejection, None, None]
"""Lazy; closing it closes the file."""
