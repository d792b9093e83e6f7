"""The cases of `tests/corpus`, and what a verdict about one of them has to be."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FILES = sorted((Path(__file__).parent / "corpus").glob("*.jsonl"))


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def every(cases: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """About `count` of them, spread evenly."""
    return cases[:: max(1, len(cases) // count)]


def disagreements(cases: Iterable[dict[str, Any]], verdicts: Iterable[dict[str, Any]]) -> list[str]:
    """A line for each verdict that is not the expected one; hostile cases that passed come first.

    A hostile case may also end at its deadline.
    """
    found = []
    for case, verdict in zip(cases, verdicts, strict=True):
        expected = case["expect"]
        is_right = verdict["outcome"] == expected["outcome"] and (
            verdict["outcome"] != "scored" or verdict["passed"] is expected["passed"]
        )
        is_hostile = case.get("hostile", False)
        if is_right or (is_hostile and verdict["outcome"] == "timeout"):
            continue
        mark = "HOSTILE PASSED " if is_hostile and verdict["passed"] else ""
        found.append(
            f"{mark}{case['id']}: {case['response'][:80]!r} for {case['reference'][:40]!r}: "
            f"{verdict['outcome']} {verdict['passed']} ({verdict['detail'][:80]}), "
            f"expected {expected}"
        )
    return sorted(found, key=lambda line: not line.startswith("HOSTILE"))
