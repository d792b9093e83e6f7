"""The lines of a file for `rlsd verify`: read one at a time, whatever stands in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsd.errors import ConfigError

_LONGEST_KIND = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One completion to check."""

    id: Any
    """As the file has it; the line's number where it has none."""
    kind: str
    response: str
    reference: str
    params: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a file asks for."""

    num_cases: int
    kinds: tuple[str, ...]
    """Those of its lines and those that its parameters name (a kind may be made of others)."""


def survey(path: Path) -> Survey:
    """Read the whole file once, before any check; raises ConfigError at the first wrong line."""
    num_cases = 0
    kinds: set[str] = set()
    for case in read_cases(path):
        num_cases += 1
        kinds.add(case.kind)
        kinds.update(_named_kinds(case.params))
    return Survey(num_cases=num_cases, kinds=tuple(sorted(kinds)))


def read_cases(path: Path) -> Iterator[Case]:
    """The cases of a JSONL file in order; blank lines are skipped.

    Raises:
        ConfigError: the file cannot be read, or a line is no case; with FILE:LINE and the remedy.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _case(line, number, where=f"{path}:{number}")
    except OSError as cause:
        raise ConfigError(f"{path}: cannot be read ({cause.strerror})") from cause


def _case(line: bytes, number: int, *, where: str) -> Case:
    try:
        item = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as cause:
        raise ConfigError(f"{where}: not UTF-8 (byte {cause.start}); save it as UTF-8") from cause
    except ValueError as cause:
        raise ConfigError(f"{where}: not JSON ({cause}); write one object a line") from cause
    except RecursionError as cause:
        raise ConfigError(f"{where}: nested too deep to be read") from cause
    if not isinstance(item, dict):
        raise ConfigError(f"{where}: not a JSON object; write one object a line")
    if missing := [key for key in ("kind", "response") if key not in item]:
        raise ConfigError(f"{where}: lacks {' and '.join(missing)}; add it")
    kind, params = item["kind"], item.get("params")
    if not isinstance(kind, str) or not 0 < len(kind) <= _LONGEST_KIND:
        raise ConfigError(f"{where}: kind is {str(kind)[:40]!r}; give the name of a kind")
    if params is not None and not isinstance(params, dict):
        raise ConfigError(f"{where}: params is {str(params)[:40]!r}; give an object")
    return Case(
        id=item["id"] if item.get("id") is not None else number,
        kind=kind,
        response=_text(item["response"]),
        reference=_text(item.get("reference")),
        params=params or {},
    )


def _text(value: Any) -> str:
    """A string itself, nothing for null, anything else as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _named_kinds(params: Any) -> Iterator[str]:
    """Every text under a key `kind`; without recursion, as the nesting may be hostile."""
    waiting = [params]
    while waiting:
        match waiting.pop():
            case dict() as table:
                kind = table.get("kind")
                if isinstance(kind, str) and 0 < len(kind) <= _LONGEST_KIND:
                    yield kind
                waiting.extend(table.values())
            case list() as values:
                waiting.extend(values)
