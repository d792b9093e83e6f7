"""What rollout and teacher need of an inference engine, and nothing more.

An engine samples and scores token ids under one set of weights, and takes new weights while it
does. It knows nothing of chats, groups or runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rlsd.policy.vision import Picture
from rlsd.trajectory import FinishReason, FloatArray, IntArray, VersionSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRequest:
    """One completion to draw."""

    prompt_ids: tuple[int, ...]
    seed: int
    """63 bits."""
    temperature: float
    """0 is greedy."""
    top_p: float
    max_tokens: int
    pictures: tuple[Picture, ...] = ()
    """Those that `prompt_ids` has places for, one id for each of their tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A completion that an engine drew."""

    token_ids: IntArray
    """[T] the end token included when there is one."""
    logprobs: FloatArray
    """[T] nats at the request's temperature (1 when greedy)."""
    finish_reason: FinishReason
    spans: tuple[VersionSpan, ...]
    """Which weights drew which tokens; they cover 0 … T."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringRequest:
    """Given tokens to score, each given all before it, at temperature 1."""

    prefix_ids: tuple[int, ...]
    """At least one; not scored."""
    completion_ids: tuple[int, ...]
    num_likeliest: int = 0
    """K: also the K likeliest tokens at each position."""
    pictures: tuple[Picture, ...] = ()
    """Those that `prefix_ids` has places for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Log-probs of T given tokens."""

    logprobs: FloatArray
    """[T] nats."""
    likeliest_ids: IntArray | None = None
    """[T, K], likeliest first."""
    likeliest_logprobs: FloatArray | None = None
    """[T, K] nats."""
    num_computed: int | None = None
    """Tokens that went through the model for it; of the others a cache knew enough. None where
    the engine does not say."""


class InferenceEngine(Protocol):
    """An async context manager. Calls may overlap; a cancelled call gives its slot back."""

    async def sample(self, request: SamplingRequest) -> Sample:
        """One completion.

        Raises:
            EngineError: the engine failed on the request.
            UnfitError: the engine is gone.
        """
        ...

    async def score(self, request: ScoringRequest) -> Scores:
        """Log-probs of a given completion.

        Raises:
            EngineError: the engine failed on the request.
            UnfitError: the engine is gone.
        """
        ...

    async def install(self, folder: Path, version: int) -> float:
        """Put the weights in `folder` in place and label them; calls under way go on with them.

        Returns the seconds during which nothing was computed. What was cached under the old
        weights is not used for requests that come later.

        Raises:
            WeightsError: they do not fit, or the engine did not take them.
            UnfitError: the engine is gone.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
