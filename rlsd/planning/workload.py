"""What one group costs the stages: its lengths, and whether its verdicts let it be trained on.

A load is a function of the group's index, so that every split of the devices is offered the same
groups.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

_Z99 = 2.3263478740408408
"""The 99th percentile of the standard normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLoad:
    """One group as the stages feel it."""

    prompt_tokens: int
    completion_tokens: tuple[int, ...]
    """By member; what the policy draws."""
    tool_tokens: int = 0
    """Of all members: what it only reads between its turns."""
    is_rejected: bool = False
    """By its verdicts: it skips teacher and training, and takes its place in the batch."""
    verify_s: float = 0.0
    """Its longest check."""

    @property
    def written_tokens(self) -> int:
        """Tokens that rollout draws."""
        return sum(self.completion_tokens)

    @property
    def read_tokens(self) -> int:
        """Positions of one pass over prompt and completion of every member."""
        prompts = self.prompt_tokens * len(self.completion_tokens)
        return self.written_tokens + self.tool_tokens + prompts


class Workload(Protocol):
    """The groups of a run."""

    def load(self, index: int) -> GroupLoad:
        """Group `index`; the same at every call."""
        ...


@dataclass(frozen=True, slots=True)
class Measured:
    """The groups of a batch log in their order, from the beginning again at its end."""

    groups: Sequence[GroupLoad]

    def load(self, index: int) -> GroupLoad:
        """Group `index`."""
        return self.groups[index % len(self.groups)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNormal:
    """Lengths drawn independently from a log-normal distribution that `max_tokens` cuts."""

    mean_tokens: float
    p99_tokens: float
    max_tokens: int
    group_size: int
    prompt_tokens: int
    rejected_share: float = 0.0
    verify_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.mean_tokens <= self.p99_tokens:
            raise ValueError(
                f"mean {self.mean_tokens:g} and 99th percentile {self.p99_tokens:g} of the lengths "
                f"must be in this order, from 1 on"
            )
        if self.p99_tokens > self.mean_tokens * math.exp(_Z99**2 / 2):
            raise ValueError(
                f"no log-normal distribution with mean {self.mean_tokens:g} has its 99th "
                f"percentile at {self.p99_tokens:g}; it is at most "
                f"{self.mean_tokens * math.exp(_Z99**2 / 2):.0f}"
            )

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm: ln(p99 / mean) = z sigma - sigma² / 2."""
        return _Z99 - math.sqrt(_Z99**2 - 2 * math.log(self.p99_tokens / self.mean_tokens))

    def load(self, index: int) -> GroupLoad:
        """Group `index`."""
        draws = random.Random(f"{self.seed}/{index}")
        mu = math.log(self.mean_tokens) - self.sigma**2 / 2
        lengths = (draws.lognormvariate(mu, self.sigma) for _ in range(self.group_size))
        return GroupLoad(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=tuple(min(self.max_tokens, max(1, round(x))) for x in lengths),
            is_rejected=draws.random() < self.rejected_share,
            verify_s=self.verify_s,
        )
