"""`schema`: the JSON that the completion ends on is valid under the task's JSON Schema.

What provably ends soon is validated here; everything else in a child process that is killed at the
deadline. Rust's validator is fast and its patterns are mostly linear, yet a schema of ten lines
keeps it busy for days.
"""

from __future__ import annotations

import contextlib
import functools
import json
import marshal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, Field

from rlsd.trajectory import Verdict, VerdictOutcome
from services.verifier.checks.check import InvalidTask, Kind, Params, Setup, Task, scored
from services.verifier.checks.schema import extract, rules
from services.verifier.checks.schema.compiled import Compiled, Draft, WrongSchema
from services.verifier.checks.schema.cost import weight
from services.verifier.checks.schema.strict import DuplicateKeys, NotJson, depth, read
from services.verifier.children.pool import ChildPool

_VALIDATION = "services.verifier.checks.schema.validation"
"""What the children of the pool run."""
_LARGEST_SCHEMA = 256 * 1024
"""Characters of the schema as JSON."""
_DEEPEST_SCHEMA = 128
_MOST_WORK = 5_000_000
"""Schema nodes times characters of the document: tens of milliseconds at worst."""
_NUM_CACHED = 256
_ENCODER = json.JSONEncoder(allow_nan=False)


class SchemaParams(Params):
    """The schema, how JSON is read, and what else must hold. The reference is not used."""

    model_config = ConfigDict(serialize_by_alias=True)

    schema_: dict[str, Any] | bool = Field(alias="schema")
    """A JSON Schema; `$schema` names its draft."""
    draft: Draft = "2020-12"
    """The draft of a schema without `$schema`."""
    formats: bool = False
    """Assert `format`; by default it is a remark, as the official suite has it."""
    only_bare: bool = False
    """The completion must be JSON and nothing else: no fence, no prose."""
    duplicate_keys: DuplicateKeys = "refuse"
    """A key twice in one object: refuse the document, or let the last one hold."""
    forbidden_fields: list[str] | None = None
    """Names that no object may have as a key, at any depth, case aside."""
    pii: list[rules.Detector] | None = None
    """Kinds of personal data that no text may hold."""
    time_limit_s: float | None = Field(default=None, gt=0, le=60)
    """Seconds for one validation, instead of the service's own deadline."""


@contextlib.asynccontextmanager
async def open_schema(setup: Setup) -> AsyncIterator[Kind]:
    """The kind, with its children warm."""
    section = setup.section
    async with ChildPool(
        _VALIDATION, num_children=section.workers, timeout_s=section.timeout_s
    ) as pool:
        yield Kind(SchemaCheck(pool), SchemaParams)


class SchemaCheck:
    """Validity under a JSON Schema, then the rules."""

    def __init__(self, pool: ChildPool) -> None:
        self._pool = pool

    async def __call__(self, task: Task[SchemaParams], completion: str) -> Verdict:
        """1 when valid and no rule is broken; TIMEOUT when the schema cannot be evaluated in time.

        Raises:
            InvalidTask: the schema is none, too large, or refers to other documents.
        """
        params = task.params
        schema = _prepared(params)
        try:
            found = extract.find(
                completion,
                lambda text: read(text, params.duplicate_keys),
                only_bare=params.only_bare,
            )
        except NotJson as wrong:
            return scored(0.0, str(wrong))
        try:
            fault = await self._fault(schema, found, params)
        except TimeoutError:
            return Verdict(outcome=VerdictOutcome.TIMEOUT, reason="validation took too long")
        fault = fault or _broken_rule(found.value, params)
        return scored(1.0, "valid") if fault is None else scored(0.0, fault)

    async def _fault(
        self, schema: _Prepared, found: extract.Found, params: SchemaParams
    ) -> str | None:
        if schema.compiled is not None and schema.weight * len(found.text) <= _MOST_WORK:
            return schema.compiled.fault(found.value)
        question = {
            "schema": schema.text,
            "draft": params.draft,
            "formats": params.formats,
            "document": found.text,
        }
        reply = await self._pool.ask(question, timeout_s=params.time_limit_s)
        if "wrong_schema" in reply:
            raise InvalidTask(f"params of 'schema': {reply['wrong_schema']}")
        fault: str | None = reply["fault"]
        return fault


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A schema as the check uses it."""

    text: str = ""
    weight: int = 0
    compiled: Compiled | None = None
    """None when only a child may validate by it."""
    fault: str | None = None


def _prepared(params: SchemaParams) -> _Prepared:
    try:  # the cheapest identity; the bytes are read back by nobody but this process
        key = marshal.dumps(params.schema_, 2)
    except ValueError as cause:
        raise InvalidTask(f"params of 'schema': schema: {cause}") from cause
    schema = _prepare(key, params.draft, formats=params.formats)
    if schema.fault is not None:
        raise InvalidTask(f"params of 'schema': schema: {schema.fault}")
    return schema


@functools.lru_cache(maxsize=_NUM_CACHED)
def _prepare(key: bytes, draft: Draft, *, formats: bool) -> _Prepared:
    schema = marshal.loads(key)
    try:
        text = _ENCODER.encode(schema)
    except (RecursionError, TypeError, ValueError) as cause:
        return _Prepared(fault=f"not JSON ({cause})")
    if len(text) > _LARGEST_SCHEMA:
        return _Prepared(fault=f"more than {_LARGEST_SCHEMA} characters")
    if depth(text) > _DEEPEST_SCHEMA:
        return _Prepared(fault=f"nested more than {_DEEPEST_SCHEMA} deep")
    weighed = weight(schema, formats=formats)
    if weighed is None:
        return _Prepared(text=text)
    try:
        compiled = Compiled(schema, draft=draft, formats=formats, is_linear=True)
    except WrongSchema:
        return _Prepared(text=text)  # the child says what is wrong with it
    return _Prepared(text=text, weight=weighed, compiled=compiled)


def _broken_rule(value: Any, params: SchemaParams) -> str | None:
    if params.forbidden_fields and (name := rules.forbidden_field(value, params.forbidden_fields)):
        return f"forbidden field {name[:40]!r}"
    if params.pii and (kind := rules.personal_data(value, params.pii)):
        return f"personal data: {kind.replace('_', ' ')}"
    return None
