"""Which tools the policy may call between its turns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, IPvAnyNetwork

from rlsd.config.section import Section


class ToolKeys(Section):
    """What every tool has."""

    description: str
    """What the policy is told of it, in the words of its chat template."""
    total_timeout_s: float = Field(default=60.0, gt=0)
    """All tries of one call with the pauses between them; then the group fails and is sampled
    again."""
    max_concurrency: int = Field(default=64, ge=1)
    """Calls that it is asked at once; others wait for their turn."""


class HttpToolSection(ToolKeys):
    """A service that answers calls (docs/tools.md).

    Its secret is a file, read again when it changes.
    """

    kind: Literal["http"]
    """Asked over HTTP."""
    url: str
    """https://host/path; http only where `allow_cidrs` holds every address of the host."""
    parameters: dict[str, Any]
    """JSON schema of its arguments; what does not fit is not sent, and the policy is told why."""
    bearer_file: Path | None = None
    """Holds the token of the Authorization header."""
    ca_file: Path | None = None
    """Certificates that its own must go back to; None: those of the machine."""
    allow_cidrs: tuple[IPvAnyNetwork, ...] = ()
    """Networks beyond the public ones that its addresses may lie in."""
    connect_timeout_s: float = Field(default=2.0, gt=0)
    """Name resolution, connection and TLS together."""
    try_timeout_s: float = Field(default=10.0, gt=0)
    """One try, until its answer is complete."""


class VerifierToolSection(ToolKeys):
    """A check of the verifier service, of what the policy hands it: its verdict in words."""

    kind: Literal["verifier"]
    """Asked of the verifier service."""
    verifier: str
    """The kind of the check: code, schema, sql, …"""
    params: dict[str, Any] = Field(default_factory=dict)
    """Its parameters. They stand here and nowhere else: a record's own never reach a tool."""
    argument: str = "completion"
    """The name of the one argument: the text to check."""

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of its arguments."""
        return {
            "type": "object",
            "properties": {self.argument: {"type": "string"}},
            "required": [self.argument],
            "additionalProperties": False,
        }


ToolSection = Annotated[HttpToolSection | VerifierToolSection, Field(discriminator="kind")]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]


class ToolsSection(Section):
    """What the policy may call, and how often."""

    max_turns: int = Field(default=4, ge=2)
    """Turns of the policy in one trajectory, the last one included. `rollout.max_tokens` bounds
    the tokens of all of them and of the answers together."""
    max_answer_tokens: int = Field(default=256, ge=16)
    """Longer answers are cut, and say so."""
    use: dict[ToolName, ToolSection] = Field(default_factory=dict)
    """The tools by the names that the policy calls them. Empty: a completion is one turn."""

    def functions(self) -> list[dict[str, Any]]:
        """The tools as chat templates take them: the policy and its teacher read the same list."""
        return [
            {
                "type": "function",
                "function": {
                    "name": name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                },
            }
            for name, tool in self.use.items()
        ]
