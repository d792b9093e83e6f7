"""An inference engine of others as the rollout service's engine: chats, groups, versions.

A request waits for the version it requires; its completions are handed on once every version that
drew them is known to be the learner's.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from rlsd.images.placing import Chat
from rlsd.inference.engine import InferenceEngine, Sample, SamplingRequest
from rlsd.inference.versions import HeldWeights
from rlsd.policy.loading import prompt_ids
from rlsd.policy.vision import Picture, Vision
from services.rollout.engines.engine import Completion, GenerationRequest
from services.rollout.engines.updates import UpdatePolicy


class HostedEngine:
    """Enters and leaves the inference engine with itself."""

    def __init__(
        self,
        engine: InferenceEngine,
        weights: HeldWeights,
        tokenizer: Any,
        *,
        updates: UpdatePolicy,
        vision: Vision | None = None,
    ) -> None:
        self._engine = engine
        self._weights = weights
        self._tokenizer = tokenizer
        self._vision = vision
        self._updates = updates
        self._turn = asyncio.Lock()

    @property
    def policy_version(self) -> int:
        """Version of the installed weights; -1 before the first."""
        return self._weights.version

    async def __aenter__(self) -> Self:
        await self._engine.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._engine.__aexit__(kind, error, traceback)

    def tokenize(self, messages: Chat) -> list[int]:
        """Ids of a chat up to where the completion begins."""
        return prompt_ids(self._tokenizer, messages, self._vision)

    async def hold(self, required: int) -> None:
        """Install the newest published weights, unless those held are `required` or newer."""
        if self._weights.version >= required:
            return
        async with self._turn:
            if self._weights.version < required:
                fetched = await self._weights.newest(required)
                await self._updates.update(lambda: self._weights.hold(fetched))

    async def generate(self, request: GenerationRequest) -> list[Completion]:
        """One completion for each seed, in order."""
        await self.hold(request.required_policy_version)
        pictures: tuple[Picture, ...] = ()
        if self._vision is not None and request.images:
            pictures = await asyncio.to_thread(self._vision.pictures, request.images)
        drawing = [
            asyncio.ensure_future(self._draw(request, seed, pictures)) for seed in request.seeds
        ]
        try:
            samples = await asyncio.gather(*drawing)
        finally:
            for task in drawing:
                task.cancel()  # its siblings', when one failed or nobody waits any more
        await self._weights.prove({span.version for s in samples for span in s.spans})
        texts = self._tokenizer.batch_decode(
            [s.token_ids for s in samples], skip_special_tokens=True
        )
        return [_completion(s, text) for s, text in zip(samples, texts, strict=True)]

    async def _draw(
        self, request: GenerationRequest, seed: int, pictures: tuple[Picture, ...]
    ) -> Sample:
        wanted = SamplingRequest(
            prompt_ids=request.prompt_ids,
            seed=seed,
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_tokens,
            pictures=pictures,
        )
        return await self._updates.draw(lambda: self._engine.sample(wanted))


def _completion(sample: Sample, text: str) -> Completion:
    versions = [span.version for span in sample.spans]
    return Completion(
        token_ids=sample.token_ids,
        rollout_logprobs=sample.logprobs,
        text=text,
        finish_reason=sample.finish_reason,
        min_policy_version=min(versions),
        max_policy_version=max(versions),
        spans=sample.spans if len(sample.spans) > 1 else (),
    )
