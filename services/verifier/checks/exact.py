"""`exact`: the completion, or what follows a marker in it, is the reference."""

from __future__ import annotations

from pydantic import Field, model_validator

from rlsd.trajectory import Verdict
from services.verifier.checks.check import InvalidTask, Params, Task, normalized, scored


class ExactParams(Params):
    """Which part of the completion is compared, and how."""

    after: str | None = Field(default=None, min_length=1)
    """Compare the text after the first occurrence of this marker, up to the end."""
    last: bool = False
    """Take the last occurrence of the marker instead (GSM8K's `####`)."""
    ignore_case: bool = False
    """Compare without regard to case."""

    @model_validator(mode="after")
    def _last_needs_a_marker(self) -> ExactParams:
        if self.last and self.after is None:
            raise ValueError("last: has no effect without after; give the marker")
        return self


class ExactCheck:
    """Text equality after NFKC and white-space normalisation."""

    async def __call__(self, task: Task[ExactParams], completion: str) -> Verdict:
        """1 when equal, else 0; a missing marker is 0."""
        params = task.params
        expected = _comparable(task.reference, params)
        if not expected:
            raise InvalidTask("the reference is empty; give the expected text")
        answer = _answer(completion, params)
        if answer is None:
            return scored(0.0, "no marker")
        if _comparable(answer, params) == expected:
            return scored(1.0, "equal")
        return scored(0.0, "different")


def _answer(completion: str, params: ExactParams) -> str | None:
    if params.after is None:
        return completion
    if params.last:
        _, marker, answer = completion.rpartition(params.after)
    else:
        _, marker, answer = completion.partition(params.after)
    return answer if marker else None


def _comparable(text: str, params: ExactParams) -> str:
    return normalized(text).casefold() if params.ignore_case else normalized(text)
