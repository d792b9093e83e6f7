"""The `transformers` engine: plain batched generation, exact seeds, weights installed in place.

It is the default on a machine without a GPU. Sampling is by inverse transform with one uniform
number for each token, drawn from a generator of the trajectory's own seed: a completion does not
depend on which others were generated beside it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from rlsd.errors import EngineError, RlsdError, WeightsError
from rlsd.images.placing import Chat
from rlsd.policy.loading import install, load_model, load_tokenizer, local_device, prompt_ids
from rlsd.policy.scoring import gather_logprobs, vision_inputs
from rlsd.policy.vision import Picture, Vision, barred_ids
from rlsd.serving.batcher import Batcher
from rlsd.trajectory import FinishReason
from rlsd.weights import Fetched, WeightStore, fetch_newest
from services.rollout import metrics
from services.rollout.engines.engine import Completion, GenerationRequest


class TransformersEngine:
    """Holds the model; `Batcher` gives it one batch at a time on one thread."""

    def __init__(  # noqa: PLR0913  the settings of one engine
        self,
        model_path: str,
        store: WeightStore,
        *,
        dtype: str = "float32",
        max_batch: int = 256,
        probe_tolerance: float = 1e-3,
        threads: int = 1,
        vision: Vision | None = None,
        pulse: Callable[[], object] = lambda: None,
    ) -> None:
        """Load the model.

        Args:
            vision: of a model that reads images.
            pulse: called on the compute thread for each token and, when idle, once a second.
        """
        self._model = load_model(model_path, device=local_device(), dtype=dtype)
        self._tokenizer = load_tokenizer(model_path)
        self._vision = vision
        self._barred = barred_ids(self._model.config)
        self._store = store
        self._max_batch = max_batch
        self._probe_tolerance = probe_tolerance
        self._policy_version = -1
        self._fetched: Fetched | None = None
        """The newest version that is here, until it is installed."""
        self._refusal: WeightsError | None = None
        """Why the last one could not be installed."""
        self._fetching = asyncio.Lock()
        self._pulse = pulse
        self._closing = False
        self._batcher = Batcher(
            self._run,
            max_items=1024,
            initializer=lambda: torch.set_num_threads(threads),
            pulse=pulse,
        )

    @property
    def policy_version(self) -> int:
        """Version of the installed weights; -1 before the first."""
        return self._policy_version

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing = True
        await self._batcher.__aexit__(kind, error, traceback)

    def tokenize(self, messages: Chat) -> list[int]:
        """Ids of a chat up to where the completion begins."""
        return prompt_ids(self._tokenizer, messages, self._vision)

    async def hold(self, required: int) -> None:
        """Ask for one token, which brings the weights along, on the thread that has the model."""
        if self._policy_version < required:
            await self.generate(
                GenerationRequest(
                    prompt_ids=(0,),
                    seeds=(0,),
                    temperature=0.0,
                    top_p=1.0,
                    max_tokens=1,
                    required_policy_version=required,
                )
            )

    async def generate(self, request: GenerationRequest) -> list[Completion]:
        """One completion for each seed, in order."""
        await self._fetch(request.required_policy_version)
        return await self._batcher.submit(request)

    async def _fetch(self, required: int) -> None:
        """Bring weights here, unless they are; the compute thread goes on with those it has."""
        async with self._fetching:
            here = self._fetched
            version = self._policy_version if here is None else here.manifest.version
            if max(version, self._policy_version) < required:
                self._refusal = None
                fetching = fetch_newest(self._store, required)
                self._fetched = await metrics.WEIGHTS.take(fetching)

    def _run(self, requests: list[GenerationRequest]) -> list[list[Completion] | Exception]:
        """Compute a batch of requests; those that cannot share a forward pass are split."""
        results: list[list[Completion] | Exception] = [[] for _ in requests]
        pictures: dict[int, tuple[Picture, ...]] = {}
        alike: dict[tuple[float, float, int, int], list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            try:
                self._ensure_version(request.required_policy_version)
                if self._vision is not None:
                    pictures[number] = self._vision.pictures(request.images)
            except RlsdError as error:
                results[number] = error
                continue
            key = (request.temperature, request.top_p, request.max_tokens, len(request.prompt_ids))
            alike[key].append(number)
        for numbers in alike.values():
            rows = [(n, seed) for n in numbers for seed in requests[n].seeds]
            for start in range(0, len(rows), self._max_batch):
                part = rows[start : start + self._max_batch]
                for (number, _), completion in zip(
                    part, self._complete(requests, part, pictures), strict=True
                ):
                    result = results[number]
                    assert isinstance(result, list)
                    result.append(completion)
        return results

    def _ensure_version(self, required: int) -> None:
        if self._policy_version >= required:
            return
        fetched = self._fetched
        if fetched is None:  # tried for another request of this batch
            raise self._refusal or EngineError(f"policy version {required} could not be installed")
        try:
            difference = install(
                self._model, fetched, tolerance=self._probe_tolerance, meter=metrics.WEIGHTS
            )
            self._policy_version = fetched.manifest.version
            metrics.observe_installation(self._policy_version, probe_difference=difference)
        except WeightsError as error:
            self._refusal = error
            raise
        finally:
            if self._fetched is fetched:
                self._fetched = None

    @torch.inference_mode()
    def _complete(
        self,
        requests: list[GenerationRequest],
        rows: list[tuple[int, int]],
        pictures: Mapping[int, Sequence[Picture]],
    ) -> list[Completion]:
        """Completions for rows of (request number, seed), all with prompts of one length."""
        request = requests[rows[0][0]]
        prompts = torch.tensor([requests[n].prompt_ids for n, _ in rows], device=self._model.device)
        seen = [picture for number, _ in rows for picture in pictures.get(number, ())]
        sampler = _SeededSampler([seed for _, seed in rows], request, barred=self._barred)
        try:
            output = self._model.generate(
                input_ids=prompts,
                attention_mask=torch.ones_like(prompts),
                **(vision_inputs(self._model, prompts, seen) if seen else {}),
                max_new_tokens=request.max_tokens,
                do_sample=False,
                logits_processor=LogitsProcessorList([sampler]),
                stopping_criteria=StoppingCriteriaList([_Pulse(self._token)]),
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
                eos_token_id=self._tokenizer.eos_token_id,
            )
        except (RuntimeError, ValueError) as cause:
            raise EngineError(f"transformers engine: generation failed: {cause}") from cause
        return self._split(output[:, prompts.shape[1] :].cpu(), sampler.logprobs().cpu())

    def _token(self) -> None:
        """A token of each row is there; nobody waits for the rest when the engine closes."""
        if self._closing:
            raise EngineError("transformers engine: closed during generation")
        self._pulse()

    def _split(self, ids_BT: Tensor, logprobs_BT: Tensor) -> list[Completion]:
        """Cut each row after its end token."""
        ended = ids_BT == self._tokenizer.eos_token_id
        lengths = torch.where(ended.any(1), ended.int().argmax(1) + 1, ids_BT.shape[1])
        ids = ids_BT.numpy().astype(np.int32)
        logprobs = logprobs_BT.numpy().astype(np.float32)
        texts = self._tokenizer.batch_decode(
            [row[:length] for row, length in zip(ids, lengths, strict=True)],
            skip_special_tokens=True,
        )
        return [
            Completion(
                token_ids=ids[row, :length],
                rollout_logprobs=logprobs[row, :length],
                text=texts[row],
                finish_reason=FinishReason.STOP if ended[row].any() else FinishReason.LENGTH,
                min_policy_version=self._policy_version,
                max_policy_version=self._policy_version,
            )
            for row, length in enumerate(lengths.tolist())
        ]


class _Pulse(StoppingCriteria):  # type: ignore[misc]  # untyped base
    """Stops nothing; tells at each token that generation goes on."""

    def __init__(self, pulse: Callable[[], object]) -> None:
        self._pulse = pulse

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        """No row ends here."""
        self._pulse()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class _SeededSampler(LogitsProcessor):  # type: ignore[misc]  # untyped base
    """Chooses each row's token itself and leaves greedy decoding only that one to take."""

    def __init__(
        self, seeds: list[int], request: GenerationRequest, *, barred: Sequence[int]
    ) -> None:
        generators = (torch.Generator().manual_seed(seed) for seed in seeds)
        self._uniforms_BT = torch.stack(
            [torch.rand(request.max_tokens, generator=g, dtype=torch.float64) for g in generators]
        )
        self._temperature = request.temperature
        self._top_p = request.top_p
        self._barred = list(barred)
        self._logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores with one finite entry a row: the token drawn from `scores`."""
        logits_BV = scores.float()
        if self._temperature > 0:
            logits_BV = logits_BV / self._temperature
            chosen_B = self._draw(self._allowed(logits_BV))
        else:
            chosen_B = self._allowed(logits_BV).argmax(-1)
        self._logprobs.append(gather_logprobs(logits_BV[:, None], chosen_B[:, None])[:, 0])
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen_B[:, None], 0.0)

    def logprobs(self) -> Tensor:
        """[B, T] nats of the tokens chosen so far; junk after a row's end."""
        return torch.stack(self._logprobs, dim=1)

    def _allowed(self, logits_BV: Tensor) -> Tensor:
        """The logits without the tokens that no completion may have; log-probs are of all."""
        if not self._barred:
            return logits_BV
        allowed_BV = logits_BV.clone()
        allowed_BV[:, self._barred] = -torch.inf
        return allowed_BV

    def _draw(self, logits_BV: Tensor) -> Tensor:
        """One token a row by inverse transform; within the nucleus when top_p < 1."""
        probabilities_BV = logits_BV.double().softmax(-1)
        if self._top_p < 1:
            ordered, order = probabilities_BV.sort(-1, descending=True)
            outside = ordered.cumsum(-1) - ordered >= self._top_p
            probabilities_BV = torch.zeros_like(ordered).scatter_(
                1, order, ordered.masked_fill(outside, 0.0)
            )
        cumulative_BV = probabilities_BV.cumsum(-1)
        uniforms_B = self._uniforms_BT[:, len(self._logprobs)].to(cumulative_BV.device)
        threshold_B = uniforms_B * cumulative_BV[:, -1]
        return torch.searchsorted(cumulative_BV, threshold_B[:, None], right=True)[:, 0]
