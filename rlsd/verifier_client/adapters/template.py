"""Any other JSON contract, described by two JMESPath expressions: data, never code.

request = "{input: completion, gold: reference, lang: task.language}"
answer  = "results[0].score"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from rlsd.errors import ConfigError, VerifierError
from rlsd.verifier_client.adapters.adapter import NATIVE, Adapter, finite_number
from rlsd.verifier_contract.native import Answer, ContractError, ScoredAnswer, VerifyRequest


def template(request: str, answer: str) -> Adapter:
    """The adapter of two expressions; raises ConfigError when one cannot be read."""
    body = _compiled("request", request)

    def ask(native: VerifyRequest) -> Any:
        try:
            return body.search(NATIVE.body(native))
        except JMESPathError as cause:
            raise VerifierError(f"request {request!r}: {type(cause).__name__}") from cause

    return Adapter(path="/", body=ask, answer=number_at(answer))


def number_at(expression: str) -> Callable[[Any, VerifyRequest], Answer]:
    """Reads the number (or the boolean, as 1 or 0) that an expression finds in an answer."""
    place = _compiled("answer", expression)

    def read(value: Any, _: VerifyRequest) -> Answer:
        try:
            found = place.search(value)
        except JMESPathError as cause:
            raise ContractError(f"{expression!r}: {type(cause).__name__}") from cause
        score = float(found) if isinstance(found, bool) else finite_number(found, expression)
        return ScoredAnswer(score=score)

    return read


def _compiled(key: str, expression: str) -> Any:
    try:
        return jmespath.compile(expression)
    except JMESPathError as cause:
        raise ConfigError(f"{key} {expression!r}: not a JMESPath ({cause})") from cause
