"""What an adapter is, the native one, and what the others share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlsd.verifier_contract.native import Answer, ContractError, VerifyRequest, read_answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Two pure functions between the native contract and another one."""

    path: str
    """Where the other side listens when the URL has no path."""
    body: Callable[[VerifyRequest], Any]
    """The JSON value to send."""
    answer: Callable[[Any, VerifyRequest], Answer]
    """What a JSON value says about the request; raises ContractError."""


def prompt_text(request: VerifyRequest) -> str:
    """The prompt for peers that know no turns: the contents of its messages."""
    return "\n\n".join(message.content for message in request.messages)


def finite_number(value: Any, where: str) -> float:
    """A number that is one in JSON too; raises ContractError.

    Args:
        where: names the field in the message.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ContractError(f"{where} is not a number but {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number - number != 0:  # NaN and the infinities
        raise ContractError(f"{where} is not a finite number")
    return number


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object; raises ContractError."""
    if not isinstance(value, dict):
        raise ContractError(f"the answer is not an object but {type(value).__name__}")
    return value


NATIVE = Adapter(
    path="/v1/verify",
    body=lambda request: request.model_dump(mode="json", by_alias=True),
    answer=lambda value, _: read_answer(value),
)
"""The contract itself."""
