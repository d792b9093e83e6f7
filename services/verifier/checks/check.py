"""What every check is: a completion and a reference in, a verdict out.

The one rule: what the policy wrote can only cost it the reward. Whatever else goes wrong is a
`VerifierError`, which the service turns into an ERROR verdict.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rlsd.errors import VerifierError
from rlsd.trajectory import Verdict, VerdictOutcome

_WHITESPACE = re.compile(r"\s+")


class Params(BaseModel):
    """The parameters of a kind: frozen, and one it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


P = TypeVar("P", bound=Params)
P_contra = TypeVar("P_contra", bound=Params, contravariant=True)


class InvalidTask(VerifierError):
    """The task itself is wrong (reference, parameters): no completion can be judged by it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"invalid task: {what}")


class Check(Protocol[P_contra]):
    """Decides about one completion of one kind of task."""

    async def __call__(self, completion: str, reference: str, params: P_contra) -> Verdict:
        """The verdict; a check with a deadline answers TIMEOUT itself.

        Raises:
            VerifierError: no verdict could be had.
        """
        ...


def scored(reward: float, reason: str) -> Verdict:
    """A verdict with a reward, 0 … 1."""
    return Verdict(outcome=VerdictOutcome.SCORED, reward=reward, reason=reason)


def read_params(kind: str, model: type[P], params: Mapping[str, Any]) -> P:
    """The parameters of a task, checked.

    Raises:
        InvalidTask: an unknown name or a wrong value; the message names it and the remedy.
    """
    try:
        return model.model_validate(dict(params))
    except ValidationError as cause:
        known = ", ".join(model.model_fields) or "none"
        found = "; ".join(_explain(error, known) for error in cause.errors(include_url=False))
        raise InvalidTask(f"params of {kind!r}: {found}") from cause


def normalized(text: str) -> str:
    """NFKC, runs of white space as one space, none at the ends."""
    return _WHITESPACE.sub(" ", unicodedata.normalize("NFKC", text)).strip()


def _explain(error: Any, known: str) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{name}: unknown; remove it (known: {known})"
    if not name:  # a rule of ours over several parameters
        return str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}, got {error['input']!r}"
