"""A running `vllm serve`: token ids in, token ids out, over HTTP.

| what | route |
|---|---|
| sample, score | POST /inference/v1/generate (`--enable-scale-out`) |
| pause between two steps, go on | POST /pause?mode=keep, /resume (`VLLM_SERVER_DEV_MODE=1`) |
| load in place | POST /collective_rpc with our worker extension (`VLLM_SERVER_DEV_MODE=1`) |
| label the weights | POST /update_weight_version (`VLLM_SERVER_DEV_MODE=1`) |

A request whose connection is closed is aborted by the server. Names are those of vLLM 0.32.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

import httpx
import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from rlsd.errors import EngineError
from rlsd.inference.engine import Sample, SamplingRequest, Scores, ScoringRequest
from rlsd.inference.server.connection import Refusal, ServerConnection
from rlsd.inference.server.greeting import greet
from rlsd.inference.server.installations import Installations, LabelSpan
from rlsd.inference.server.installing import install_between_steps
from rlsd.inference.server.likeliest import with_likeliest
from rlsd.inference.server.no_images import refuse_pictures
from rlsd.trajectory import FinishReason

_GENERATE = "/inference/v1/generate"
_ANSWER_BYTES = 64 * 1024
_SAMPLED_TOKEN_BYTES = 512
_LIKELY_TOKEN_BYTES = 128
"""Of one log-prob of one position, with its names."""
_ORDER_TIMEOUT_S = 30.0

TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class _TokenLogprob(BaseModel):
    token_id: TokenId
    logprob: FiniteFloat


class _Logprobs(BaseModel):
    content: list[_TokenLogprob]


class _Choice(BaseModel):
    finish_reason: Literal["stop", "length", "abort"]
    token_ids: list[TokenId]
    logprobs: _Logprobs | None = None
    weight_versions: list[LabelSpan] = []


class _Logprob(BaseModel):
    logprob: FiniteFloat


class _PromptDetails(BaseModel):
    cached_tokens: int


class _Usage(BaseModel):
    prompt_tokens_details: _PromptDetails | None = None


class _Answer(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1, max_length=1)]
    usage: _Usage
    prompt_logprobs: list[dict[TokenId, _Logprob] | None] | None = None


class VllmServer:
    """One server for one service: its weights are this service's alone."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._installations = Installations(connection.url)

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        try:
            await self._connection.until_up("/health")
            with contextlib.suppress(EngineError):  # a process before this one may have paused it
                await self._order("/resume")
            await greet(
                self,
                url=self._connection.url,
                tempered="start vllm serve with --logprobs-mode processed_logprobs",
                seeded="none: vLLM heeds them",
            )
        except BaseException:
            await self._connection.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connection.__aexit__(kind, error, traceback)

    async def sample(self, request: SamplingRequest) -> Sample:
        """One completion."""
        refuse_pictures(request.pictures, url=self._connection.url)
        asked_at = self._installations.number
        answer = await self._generate(
            request.prompt_ids,
            {
                "temperature": request.temperature,
                "top_p": request.top_p,
                "max_tokens": request.max_tokens,
                "seed": request.seed,
                "logprobs": 0,  # of the drawn token alone
            },
            limit=_ANSWER_BYTES + _SAMPLED_TOKEN_BYTES * request.max_tokens,
        )
        choice = answer.choices[0]
        found = [] if choice.logprobs is None else choice.logprobs.content
        if not choice.token_ids or [t.token_id for t in found] != choice.token_ids:
            raise EngineError(
                f"{self._connection.url}: {len(found)} log-probs for {len(choice.token_ids)} tokens"
            )
        return Sample(
            token_ids=np.asarray(choice.token_ids, dtype=np.int32),
            logprobs=np.asarray([t.logprob for t in found], dtype=np.float32),
            finish_reason=FinishReason(choice.finish_reason),
            spans=self._installations.spans(
                choice.weight_versions, num_tokens=len(choice.token_ids), asked_at=asked_at
            ),
        )

    async def score(self, request: ScoringRequest) -> Scores:
        """Log-probs of a given completion."""
        refuse_pictures(request.pictures, url=self._connection.url)
        num_prefix = len(request.prefix_ids)
        num_tokens = num_prefix + len(request.completion_ids)
        answer, num_cached = await self._scored(request, reads_cache=True)
        num_computed = num_tokens - num_cached
        if num_cached >= num_prefix:
            # The cache reaches beyond the prefix, and what it holds is not scored.
            answer, _ = await self._scored(request, reads_cache=False)
            num_computed += num_tokens
        tables = (answer.prompt_logprobs or [])[num_prefix:]
        logprobs = [
            None if table is None else table.get(token)
            for token, table in zip(request.completion_ids, tables, strict=False)
        ]
        own = [found.logprob for found in logprobs if found is not None]
        if len(own) != len(request.completion_ids):
            raise EngineError(
                f"{self._connection.url}: scores of {len(own)} tokens, not of "
                f"{len(request.completion_ids)}"
            )
        scores = Scores(logprobs=np.asarray(own, dtype=np.float32), num_computed=num_computed)
        if request.num_likeliest == 0:
            return scores
        rows = [[(f.logprob, t) for t, f in (table or {}).items()] for table in tables]
        return with_likeliest(scores, rows, request.num_likeliest, url=self._connection.url)

    async def install(self, folder: Path, version: int) -> float:
        """Pause between two steps, load in place, go on."""
        return await install_between_steps(
            self._installations,
            folder,
            version,
            pause=lambda: self._order("/pause?mode=keep&clear_cache=false"),
            load=self._load,
            go_on=lambda: self._order("/resume"),
        )

    async def _load(self, folder: str, label: str) -> None:
        await self._connection.order(
            "/collective_rpc", {"method": "install_weights", "args": [folder]}
        )
        await self._order("/update_weight_version", {"new_version": label})

    async def _order(self, path: str, body: dict[str, Any] | None = None) -> None:
        try:
            await self._connection.order(path, body, timeout_s=_ORDER_TIMEOUT_S)
        except Refusal as refusal:
            if refusal.http_status != httpx.codes.NOT_FOUND:
                raise
            raise Refusal(
                f"{refusal}; start vllm serve with VLLM_SERVER_DEV_MODE=1", refusal.http_status
            ) from refusal

    async def _scored(self, request: ScoringRequest, *, reads_cache: bool) -> tuple[_Answer, int]:
        """The answer, and how many tokens of it came out of the cache."""
        asked_at = self._installations.number
        token_ids = request.prefix_ids + request.completion_ids
        answer = await self._generate(
            token_ids,
            {
                "max_tokens": 1,
                "temperature": 0.0,
                "prompt_logprobs": request.num_likeliest,
                "skip_reading_prefix_cache": not reads_cache,
            },
            limit=_ANSWER_BYTES
            + _LIKELY_TOKEN_BYTES * (request.num_likeliest + 1) * len(token_ids),
        )
        choice = answer.choices[0]
        self._installations.spans(choice.weight_versions, num_tokens=1, asked_at=asked_at)
        details = answer.usage.prompt_tokens_details
        if details is None:
            raise EngineError(
                f"{self._connection.url} does not say what its cache knew; start vllm serve with "
                f"--enable-prompt-tokens-details"
            )
        return answer, details.cached_tokens

    async def _generate(
        self, token_ids: tuple[int, ...], sampling: dict[str, Any], *, limit: int
    ) -> _Answer:
        answer = await self._connection.ask(
            _GENERATE,
            {
                "token_ids": list(token_ids),
                "sampling_params": {"detokenize": False, **sampling},
                "cache_salt": self._installations.salt,
            },
            _Answer,
            limit=limit,
        )
        if answer.choices[0].finish_reason == "abort":
            raise EngineError(f"{self._connection.url} ended a request before it was complete")
        return answer
