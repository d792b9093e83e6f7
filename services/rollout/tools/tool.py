"""What the loop needs of a tool, and all that a tool ever learns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls. Nothing in it is of the prompt's record but its id."""

    run_id: str
    prompt_id: str
    group_id: str
    trajectory_id: str
    """The same over all turns of one trajectory, also when its group is sampled once more."""
    member: int
    turn: int
    """Of the policy, from 0."""
    call: int
    """Within the turn, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A call whose arguments fit the tool's schema."""

    tool: str
    arguments: Mapping[str, Any]
    """Written by the policy: untrusted."""
    caller: Caller

    @property
    def content(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "tool": self.tool,
            "arguments": dict(self.arguments),
            "trajectory": asdict(self.caller),
        }

    @property
    def key(self) -> str:
        """The same for every try of this call, another for every other."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the policy is told."""

    text: str
    is_refusal: bool = False
    """The tool can do nothing with these arguments."""


class Tool(Protocol):
    """Any number of calls at once; who calls bounds it."""

    async def answer(self, question: Question) -> Answer:
        """The answer to one call.

        Raises:
            ToolError: none could be had within the tool's total timeout.
        """
        ...
