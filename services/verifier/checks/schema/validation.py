"""Validation of one document by one schema; runs in a child process, where it can be killed."""

from __future__ import annotations

import functools
from json import loads
from typing import Any

from services.verifier.checks.schema.compiled import Compiled, Draft, WrongSchema
from services.verifier.checks.schema.strict import read


def warm_up() -> None:
    """Load what a first question would wait for."""
    _compiled('{"type": "object"}', "2020-12", formats=True)


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The fault of `document` by `schema` (both JSON texts), or what is wrong with the schema."""
    try:
        compiled = _compiled(question["schema"], question["draft"], formats=question["formats"])
    except WrongSchema as wrong:
        return {"wrong_schema": str(wrong)}
    return {"fault": compiled.fault(read(question["document"], "last"))}


@functools.lru_cache(maxsize=64)
def _compiled(schema: str, draft: Draft, *, formats: bool) -> Compiled:
    return Compiled(loads(schema), draft=draft, formats=formats, is_linear=False)
