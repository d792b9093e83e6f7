"""Schema checks per second: `python benchmarks/verifier_schema.py` prints one JSON object.

Ours is `Verifier.check`, from the completion to the verdict. A schema whose cost has a bound is
validated in the process (path `bounded`), one with a cycle in a child (path `killable`). The peers
get the same completions, already reduced to their JSON text, and parse and validate it; the floor
is jsonschema-rs on a value that is already parsed. Rounds alternate, so that what else the machine
does falls on all alike.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import fastjsonschema
import jsonschema
import jsonschema_rs

from rlsd.config import VerifierSection
from rlsd.trajectory import VerifierSpec
from services.verifier.core import Verifier, open_verifier

_REPEATS = 7
_ROUND_S = 0.5
_CONCURRENCY = 32
_PERSON: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "name", "email", "tags", "address"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "name": {"type": "string", "minLength": 1, "maxLength": 80},
        "email": {"type": "string", "pattern": "^[^@ ]+@[^@ ]+$"},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "address": {"$ref": "#/$defs/address"},
        "score": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
    "$defs": {
        "address": {
            "type": "object",
            "required": ["city", "zip"],
            "properties": {"city": {"type": "string"}, "zip": {"type": "string"}},
        }
    },
}
_TREE: dict[str, Any] = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "children": {"type": "array", "items": {"$ref": "#"}},
    },
}


def person(number: int) -> dict[str, Any]:
    """A document; every fourth is wrong."""
    return {
        "id": number + 1,
        "name": f"Person {number}",
        "email": f"p{number}@example.org" if number % 4 else "nobody",
        "tags": ["a", "b", f"t{number}"],
        "address": {"city": "Berlin", "zip": "10115"},
        "score": number / 7,
    }


def completions(documents: list[str]) -> list[str]:
    """Bare, fenced and in prose, in turn."""
    forms = ("{}", "Here it is:\n```json\n{}\n```\n", "I would answer {} as asked.")
    return [forms[i % 3].replace("{}", d) for i, d in enumerate(documents)]


async def _ours(verifier: Verifier, schema: dict[str, Any], documents: list[str]) -> float:
    spec = VerifierSpec(kind="schema", params={"schema": schema})
    texts = completions(documents)
    waiting = iter(_endless(texts))
    done = 0
    end = time.perf_counter() + _ROUND_S

    async def asking() -> None:
        nonlocal done
        while time.perf_counter() < end:
            verdict = await verifier.check(spec, next(waiting), "")
            assert verdict.is_scored, verdict
            done += 1

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_CONCURRENCY):
            tasks.create_task(asking())
    return done / (time.perf_counter() - started)


def _endless(texts: list[str]) -> Any:
    while True:
        yield from texts


def _timed(check: Callable[[Any], object], items: list[Any]) -> float:
    done = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _ROUND_S:
        for item in items:
            check(item)
        done += len(items)
    return done / elapsed


def _fast(schema: dict[str, Any]) -> Callable[[str], bool]:
    validate = fastjsonschema.compile(schema)

    def check(text: str) -> bool:
        try:
            validate(json.loads(text))
        except fastjsonschema.JsonSchemaException:
            return False
        return True

    return check


async def _measure(verifier: Verifier) -> dict[str, list[float]]:
    people = [json.dumps(person(n)) for n in range(64)]
    trees = [
        json.dumps({"id": n, "name": "t", "children": [{"id": 1}, {"id": "x" if n % 4 else 2}]})
        for n in range(64)
    ]
    python = jsonschema.Draft202012Validator(_PERSON)
    rust = jsonschema_rs.validator_for(_PERSON)
    fast = _fast(_PERSON)

    async def sync(check: Callable[[Any], object], items: list[Any]) -> float:
        return _timed(check, items)

    arms: dict[str, Callable[[], Awaitable[float]]] = {
        "ours_bounded": lambda: _ours(verifier, _PERSON, people),
        "ours_killable": lambda: _ours(verifier, _TREE, trees),
        "peer_jsonschema": lambda: sync(lambda t: python.is_valid(json.loads(t)), people),
        "peer_fastjsonschema": lambda: sync(fast, people),
        "floor_jsonschema_rs": lambda: sync(rust.is_valid, [json.loads(t) for t in people]),
    }
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for round_number in range(_REPEATS + 1):
        for name, arm in arms.items():
            rate = await arm()
            if round_number:  # the first round warms up
                rates[name].append(rate)
    return rates


async def main() -> None:
    """Measure and print."""
    async with open_verifier(VerifierSection(kinds=("schema",))) as verifier:
        rates = await _measure(verifier)
    figures = {
        name: {
            "median": round(statistics.median(values)),
            "min": round(min(values)),
            "max": round(max(values)),
        }
        for name, values in rates.items()
    }
    report = {
        "unit": "checks/s",
        "document_bytes": len(json.dumps(person(1))),
        "repeats": _REPEATS,
        "concurrency": _CONCURRENCY,
        "checks": figures,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    json.dump(report, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    asyncio.run(main())
