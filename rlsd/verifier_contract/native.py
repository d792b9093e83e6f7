"""The native contract: one completion in, a score or an error out.

    POST /v1/verify   VerifyRequest  ->  200 ScoredAnswer | ErrorAnswer

The one rule: a verifier that cannot decide says so (`outcome: error`). It never says 0 instead.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

SCHEMA: Final = "rlsd.verify/v1"
DETAIL_LIMIT = 2048
"""Characters of `detail` that are worth sending."""


class ContractError(ValueError):
    """A request or an answer that the contract does not know; the message says what is wrong."""


class Strict(BaseModel):
    """Frozen; no key it does not know, no text for a number, no NaN."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        populate_by_name=True,
    )


class ChatMessage(Strict):
    """One turn of the prompt."""

    role: str
    content: str


class VerifyRequest(Strict):
    """A completion and what it is judged by."""

    schema_: Literal["rlsd.verify/v1"] = Field(default=SCHEMA, alias="schema")
    """Version of the contract."""
    verifier: str = ""
    """The name under which the run knows this verifier."""
    run_id: str = ""
    """Empty outside a run."""
    group_id: str = ""
    """Completions of one prompt share it."""
    trajectory_id: str = ""
    """The same on every attempt."""
    policy_version: int = 0
    """Of the weights that wrote the completion."""
    messages: list[ChatMessage] = Field(default_factory=list)
    """The prompt."""
    completion: str
    """What the model wrote: untrusted text."""
    reference: str = ""
    """The expected answer, if the task has one."""
    task: dict[str, Any] = Field(default_factory=dict)
    """Fields of the task, as the record has them."""
    deadline_ms: int = Field(default=10_000, ge=0)
    """From the moment the request arrives; a later answer is thrown away."""


class VerifierVersion(Strict):
    """Who answered."""

    name: str
    version: str = ""


class ScoredAnswer(Strict):
    """The verifier has decided."""

    outcome: Literal["scored"] = "scored"
    score: float
    """Finite; the run's configuration says which score is reward 0 and which is reward 1."""
    components: dict[str, float] = Field(default_factory=dict)
    """Parts of the score, for people."""
    passed: bool | None = None
    """For people; the reward follows from the score alone."""
    detail: str = ""
    """Short words for people."""
    verifier: VerifierVersion | None = None
    """For the log."""


class ErrorAnswer(Strict):
    """The verifier could not decide: no reward follows."""

    outcome: Literal["error"] = "error"
    retryable: bool = False
    """Whether the same request may succeed in a moment."""
    code: str = ""
    """One word for the kind of error."""
    detail: str = ""
    """Short words for people."""


Answer = ScoredAnswer | ErrorAnswer

_ANSWER: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="outcome")])


def read_json(body: bytes) -> Any:
    """The value of a JSON text without NaN; raises ContractError."""
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as cause:
        raise ContractError(f"not JSON ({type(cause).__name__})") from cause


def read_answer(value: Any) -> Answer:
    """An answer of the native contract.

    Raises:
        ContractError: names the first field that is wrong, without its value.
    """
    try:
        return _ANSWER.validate_python(value)
    except ValidationError as cause:
        raise ContractError(f"not an answer of {SCHEMA}: {first_error(cause)}") from cause


def first_error(error: ValidationError) -> str:
    """The field and what is wrong with it; its value may be secret or huge."""
    found = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part)[:40] for part in found["loc"][:6])
    words = f"{found['msg'][:1].lower()}{found['msg'][1:200]}"
    return f"{where}: {words}" if where else words


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
