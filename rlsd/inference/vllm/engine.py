"""vLLM in this process: AsyncLLM, with its scheduler and workers as its own child processes.

Nothing of ours samples. Each completion is one vLLM request with its own seed; siblings share their
prompt through the prefix cache. New weights are taken between two steps of the scheduler: requests
under way keep their place and their cache, and go on under the new weights.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from rlsd.errors import ConfigError, EngineError, UnfitError, WeightsError
from rlsd.inference.engine import Sample, SamplingRequest, Scores, ScoringRequest
from rlsd.inference.vllm.pictures import multimodal_input
from rlsd.inference.vllm.plugin import OURS, READS_IMAGES
from rlsd.inference.vllm.without_torchvision import allow_missing_torchvision
from rlsd.policy.vision import Picture, barred_ids, reads_images
from rlsd.trajectory import FinishReason, VersionSpan

_UNVERSIONED = -1
"""Label of the weights that the engine starts with."""
_NEVER = -100.0
"""Added to the logit of a token that no completion may have; vLLM takes no more."""


class VllmEngine:
    """Starts vLLM when it is entered; what vLLM takes minutes for happens there."""

    def __init__(
        self,
        model_path: str,
        *,
        dtype: str,
        max_batch: int,
        threads: int = 1,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Remember the settings.

        Args:
            max_batch: requests computed at once.
            threads: compute threads on a CPU.
            arguments: further ones of vLLM's `AsyncEngineArgs`, by name.
        """
        self._settings: dict[str, Any] = {
            "model": model_path,
            "dtype": dtype,
            "max_num_seqs": max_batch,
            "enable_prefix_caching": True,
            "disable_log_stats": False,  # its Prometheus metrics: they come out of our own /metrics
            # Log-probs after temperature, since that is what the token was drawn from.
            "logprobs_mode": "processed_logprobs",
            "worker_extension_cls": "rlsd.inference.vllm.worker.InPlaceWeights",
            **_on_cpu(),
        }
        self._model_path = model_path
        self._arguments = dict(arguments or {})
        self._image_token_id = -1
        self._barred: dict[int, float] = {}
        self._threads = threads
        self._vllm: Any = None
        self._requests = itertools.count()
        self._salt = "unversioned"
        """What the prefix cache may be shared within: one installation of weights."""

    async def __aenter__(self) -> Self:
        _prepare_environment(self._threads)
        self._prepare_for_images()
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            arguments = AsyncEngineArgs(**{**self._settings, **self._arguments})
        except TypeError as cause:
            raise ConfigError(f"engine_args: {cause}; names are those of vLLM's engine") from cause
        try:
            self._vllm = AsyncLLM.from_engine_args(arguments)
        except (RuntimeError, ValueError) as cause:
            raise ConfigError(f"vLLM does not start: {_first_line(cause)}") from cause
        await self._vllm.update_weight_version(str(_UNVERSIONED))
        return self

    def _prepare_for_images(self) -> None:
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self._model_path)
        except (OSError, ValueError) as cause:
            raise ConfigError(f"vLLM does not start: {_first_line(cause)}") from cause
        if not reads_images(config):
            return
        allow_missing_torchvision()
        os.environ[READS_IMAGES] = "1"  # its children are to do the same
        self._image_token_id = config.image_token_id
        self._barred = dict.fromkeys(barred_ids(config), _NEVER)
        # Pictures come processed: there is nothing of theirs to keep here, and the model, which
        # does it by default, must not normalise them once more.
        self._settings |= {
            "limit_mm_per_prompt": {"video": 0},
            "mm_processor_cache_gb": 0,
            "mm_device_do_normalize": False,
        }

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._vllm.shutdown()
        self._vllm = None  # freed here: at the interpreter's end vLLM's own finaliser fails

    async def sample(self, request: SamplingRequest) -> Sample:
        """One completion."""
        from vllm import SamplingParams

        output = await self._final(
            request.prompt_ids,
            request.pictures,
            SamplingParams(
                temperature=request.temperature,
                top_p=request.top_p,
                max_tokens=request.max_tokens,
                seed=request.seed,
                logprobs=0,  # of the drawn token alone
                logit_bias=self._barred or None,
                **_lean(),
            ),
        )
        completion = output.outputs[0]
        token_ids = np.asarray(completion.token_ids, dtype=np.int32)
        return Sample(
            token_ids=token_ids,
            logprobs=_flat(completion.logprobs, len(token_ids)),
            finish_reason=FinishReason(completion.finish_reason),
            spans=tuple(
                VersionSpan(version=int(s.version), start=s.start, end=s.end)
                for s in completion.weight_versions
            ),
        )

    async def score(self, request: ScoringRequest) -> Scores:
        """Log-probs of a given completion."""
        num_prefix = len(request.prefix_ids)
        num_tokens = num_prefix + len(request.completion_ids)
        output = await self._scored(request, reads_cache=True)
        num_computed = num_tokens - output.num_cached_tokens
        if output.num_cached_tokens >= num_prefix:
            # The cache reaches beyond the prefix, and what it holds is not scored.
            output = await self._scored(request, reads_cache=False)
            num_computed += num_tokens
        found = output.prompt_logprobs
        places = [found.start_indices[n] for n in range(num_prefix, num_tokens)]
        logprobs = np.asarray(found.logprobs, dtype=np.float32)
        ids = np.asarray(found.token_ids, dtype=np.int32)
        own = logprobs[places]
        if request.num_likeliest == 0:
            return Scores(logprobs=own, num_computed=num_computed)
        # The given token comes first at each position, then the likeliest in order.
        table = np.asarray(places)[:, None] + 1 + np.arange(request.num_likeliest)
        return Scores(
            logprobs=own,
            likeliest_ids=ids[table],
            likeliest_logprobs=logprobs[table],
            num_computed=num_computed,
        )

    async def install(self, folder: Path, version: int) -> float:
        """Pause between two steps, load in place, go on."""
        from vllm.v1.engine.exceptions import EngineDeadError

        started = time.monotonic()
        self._salt = f"{version}/{started}"  # first: nothing new may read what the old ones cached
        try:
            await self._vllm.pause_generation(mode="keep", clear_cache=False)
            try:
                await self._vllm.collective_rpc("install_weights", args=(str(folder),))
                await self._vllm.update_weight_version(str(version))
            finally:
                await self._vllm.resume_generation()
        except EngineDeadError as cause:
            raise UnfitError("vLLM has died; see the log of this service") from cause
        except Exception as cause:
            raise WeightsError(
                f"weights {folder}: vLLM did not take them ({_first_line(cause)})"
            ) from cause
        return time.monotonic() - started

    async def _scored(self, request: ScoringRequest, *, reads_cache: bool) -> Any:
        from vllm import SamplingParams

        return await self._final(
            request.prefix_ids + request.completion_ids,
            request.pictures,
            SamplingParams(
                max_tokens=1,
                temperature=0.0,
                prompt_logprobs=request.num_likeliest,
                skip_reading_prefix_cache=not reads_cache,
                **_lean(),
            ),
        )

    async def _final(
        self, token_ids: tuple[int, ...], pictures: tuple[Picture, ...], sampling: Any
    ) -> Any:
        """The one output of a request, once it is complete."""
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        request_id = f"{next(self._requests)}"
        prompt: dict[str, Any] = {"prompt_token_ids": list(token_ids), "cache_salt": self._salt}
        if pictures:
            prompt = multimodal_input(
                token_ids, pictures, image_token_id=self._image_token_id, salt=self._salt
            )
        output = None
        try:
            async for answer in self._vllm.generate(prompt, sampling, request_id):
                output = answer
        except EngineDeadError as cause:
            raise UnfitError("vLLM has died; see the log of this service") from cause
        except (EngineGenerateError, ValueError) as cause:
            raise EngineError(f"vLLM refused a request: {_first_line(cause)}") from cause
        if output is None or not output.finished or output.outputs[0].finish_reason == "abort":
            raise EngineError("vLLM ended a request before it was complete")
        return output


def _lean() -> dict[str, Any]:
    """No text (the caller has the tokenizer), one answer at the end, flat numbers."""
    from vllm.sampling_params import RequestOutputKind

    return {
        "detokenize": False,
        "output_kind": RequestOutputKind.FINAL_ONLY,
        "flat_logprobs": True,
    }


def _flat(found: Any, num_tokens: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    logprobs = np.asarray(found.logprobs, dtype=np.float32)
    if len(logprobs) != num_tokens:
        raise EngineError(f"vLLM gave {len(logprobs)} log-probs for {num_tokens} tokens")
    return logprobs


def _on_cpu() -> dict[str, Any]:
    """What differs without a GPU.

    Prompts are not cut into chunks there: after a chunk vLLM turns a seeded generator back, which
    torch's CPU generator cannot do, and the engine dies.
    """
    import torch

    if torch.cuda.is_available():
        return {}
    return {"enforce_eager": True, "enable_chunked_prefill": False}


def _prepare_environment(threads: int) -> None:
    """What vLLM reads from the environment when it is imported; a value that is set stays."""
    for name, value in (
        (OURS, "1"),
        ("VLLM_NO_USAGE_STATS", "1"),
        ("VLLM_CONFIGURE_LOGGING", "0"),  # standard error carries JSON lines only
        ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
        ("VLLM_CPU_KVCACHE_SPACE", "1"),
        ("OMP_NUM_THREADS", str(threads)),
    ):
        os.environ.setdefault(name, value)


def _first_line(cause: Exception) -> str:
    lines = str(cause).strip().splitlines()
    return lines[0][:200] if lines else type(cause).__name__
