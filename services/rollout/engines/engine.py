"""What the rollout service needs of a generation engine, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rlsd.images.placing import Chat
from rlsd.trajectory import FinishReason, FloatArray, IntArray, VersionSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One prompt with the seeds of its completions."""

    prompt_ids: tuple[int, ...]
    seeds: tuple[int, ...]
    """One for each completion wanted; with the weights they fix its tokens."""
    temperature: float
    """0 is greedy."""
    top_p: float
    max_tokens: int
    required_policy_version: int
    """The engine installs the newest published weights first when it holds older ones."""
    images: tuple[str, ...] = ()
    """References of those that `prompt_ids` has places for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What an engine returns for one seed."""

    token_ids: IntArray
    rollout_logprobs: FloatArray
    """[T] nats at the request's temperature (1 when greedy), of the full distribution."""
    text: str
    finish_reason: FinishReason
    min_policy_version: int
    max_policy_version: int
    spans: tuple[VersionSpan, ...] = ()
    """Which version drew which tokens, when they are not one."""


class Engine(Protocol):
    """An async context manager that generates, holding one weight version at a time."""

    @property
    def policy_version(self) -> int:
        """Version of the installed weights; -1 before the first."""
        ...

    async def hold(self, required: int) -> None:
        """Install the newest published weights, unless those held are `required` or newer.

        Raises:
            EngineError: the version is not published.
            WeightsError: it cannot be installed; the old one stays.
            UnfitError: the engine does not compute what the learner computes.
        """
        ...

    async def generate(self, request: GenerationRequest) -> list[Completion]:
        """One completion for each seed, in order.

        Raises:
            EngineError: generation failed.
            WeightsError, UnfitError: as `hold`.
        """
        ...

    def tokenize(self, messages: Chat) -> list[int]:
        """Ids of a chat up to where the completion begins; its images are loaded on the way.

        Raises:
            ConfigError, ServiceError, StorageError: an image cannot be had or read.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
