"""The reference that vLLM's numbers are compared with: the same model in transformers."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from rlsd.inference.engine import SamplingRequest
from rlsd.inference.versions import HeldWeights, Installation
from rlsd.policy.loading import load_tokenizer, prompt_ids
from rlsd.policy.scoring import completion_logits, gather_logprobs, pad_rows
from rlsd.weights import FolderStore
from services.rollout.engines.engine import GenerationRequest

BASE = "examples/chain/base"


@cache
def ids_of(question: str) -> tuple[int, ...]:
    """A chat with one question."""
    return tuple(prompt_ids(load_tokenizer(BASE), [{"role": "user", "content": question}]))


def request(
    prompt: tuple[int, ...], *, seed: int, temperature: float = 1.0, max_tokens: int = 26
) -> SamplingRequest:
    """One completion to draw."""
    return SamplingRequest(
        prompt_ids=prompt, seed=seed, temperature=temperature, top_p=1.0, max_tokens=max_tokens
    )


@torch.no_grad()
def reference_logprobs(model: Any, prompt: Any, completion: Any, temperature: float) -> Any:
    """[T] nats by the learner's own forward pass."""
    rows = pad_rows([list(prompt)], [list(completion)], pad_id=0)
    logits = completion_logits(model, rows, temperature=temperature)
    return gather_logprobs(logits, rows.completion_BT)[0].numpy()


class Held:
    """An engine's weights with a note of each installation."""

    def __init__(self, engine: Any, store: FolderStore) -> None:
        self.installations: list[Installation] = []
        self.weights = HeldWeights(
            engine, store, tolerance=1e-3, on_installed=self.installations.append
        )

    def generation(
        self, prompt: tuple[int, ...], seed: int, *, version: int = 0, max_tokens: int = 26
    ) -> GenerationRequest:
        """One completion of the rollout service's."""
        return GenerationRequest(
            prompt_ids=prompt,
            seeds=(seed,),
            temperature=1.0,
            top_p=1.0,
            max_tokens=max_tokens,
            required_policy_version=version,
        )
