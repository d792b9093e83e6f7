"""A running SGLang server: token ids in, token ids out, over HTTP.

| what | route |
|---|---|
| sample, score | POST /generate with `return_logprob` |
| pause between two steps, go on | POST /pause_generation (`in_place`), /continue_generation |
| load in place, with a label | POST /update_weights_from_disk with `weight_version` |
| end a request nobody waits for | POST /abort_request |

Names are those of SGLang 0.5.23 (tests/golden/sglang.json).
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from rlsd.errors import EngineError
from rlsd.inference.engine import Sample, SamplingRequest, Scores, ScoringRequest
from rlsd.inference.server.connection import ServerConnection
from rlsd.inference.server.greeting import greet
from rlsd.inference.server.installations import Installations, LabelSpan
from rlsd.inference.server.installing import install_between_steps
from rlsd.inference.server.likeliest import with_likeliest
from rlsd.inference.server.no_images import refuse_pictures
from rlsd.trajectory import FinishReason

log = logging.getLogger(__name__)

_ANSWER_BYTES = 64 * 1024
_TOKEN_BYTES = 128
"""Of one log-prob of one position, or of one token id twice."""
_ORDER_TIMEOUT_S = 30.0
_ABORT_TIMEOUT_S = 1.0
"""Without it the request goes on for a few seconds."""

_UNTRUNCATED = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Said, since a server may have other defaults."""

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
_Logprob = tuple[FiniteFloat | None, TokenId, Any]
"""Log-prob, token id, text."""


class _FinishReason(BaseModel):
    type: Literal["stop", "length", "abort"]
    message: str = ""


class _MetaInfo(BaseModel):
    finish_reason: _FinishReason
    output_token_logprobs: list[_Logprob] = []
    input_token_logprobs: list[_Logprob] = []
    input_top_logprobs: list[list[_Logprob] | None] = []
    weight_versions: list[LabelSpan] = []
    cached_tokens: int = 0


class _Answer(BaseModel):
    meta_info: _MetaInfo


class SglangServer:
    """One server for one service: its weights are this service's alone."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._installations = Installations(connection.url)
        self._aborting: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        try:
            await self._connection.until_up("/model_info")
            await self._continue()  # as a process before this one may have paused it
            await greet(
                self,
                url=self._connection.url,
                tempered="start it without SGLANG_RETURN_ORIGINAL_LOGPROB",
                seeded="start it with --enable-deterministic-inference",
            )
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._aborting:
            await asyncio.wait(self._aborting, timeout=_ABORT_TIMEOUT_S)
        await self._connection.__aexit__(kind, error, traceback)

    async def sample(self, request: SamplingRequest) -> Sample:
        """One completion."""
        refuse_pictures(request.pictures, url=self._connection.url)
        asked_at = self._installations.number
        found = await self._generate(
            request.prompt_ids,
            {
                "temperature": request.temperature,
                "top_p": request.top_p,
                "max_new_tokens": request.max_tokens,
                "sampling_seed": request.seed,
            },
            limit=_ANSWER_BYTES + 2 * _TOKEN_BYTES * request.max_tokens,
        )
        drawn = [(p, token) for p, token, _ in found.output_token_logprobs if p is not None]
        if not drawn or len(drawn) != len(found.output_token_logprobs):
            raise EngineError(
                f"{self._connection.url}: log-probs of {len(drawn)} tokens, not of "
                f"{len(found.output_token_logprobs)}"
            )
        return Sample(
            token_ids=np.asarray([token for _, token in drawn], dtype=np.int32),
            logprobs=np.asarray([p for p, _ in drawn], dtype=np.float32),
            finish_reason=FinishReason(found.finish_reason.type),
            spans=self._installations.spans(
                found.weight_versions, num_tokens=len(drawn), asked_at=asked_at
            ),
        )

    async def score(self, request: ScoringRequest) -> Scores:
        """Log-probs of a given completion."""
        refuse_pictures(request.pictures, url=self._connection.url)
        asked_at = self._installations.number
        token_ids = request.prefix_ids + request.completion_ids
        num_tokens, num_likeliest = len(request.completion_ids), request.num_likeliest
        found = await self._generate(
            token_ids,
            {"temperature": 0.0, "max_new_tokens": 1},
            # The first position is given without its log-prob, so it is one before the completion;
            # the server reads its prefix cache up to there and no further.
            logprob_start_len=len(request.prefix_ids) - 1,
            top_logprobs_num=num_likeliest,
            limit=_ANSWER_BYTES + _TOKEN_BYTES * (num_likeliest + 1) * (num_tokens + 1),
        )
        self._installations.spans(found.weight_versions, num_tokens=1, asked_at=asked_at)
        own = [p for p, _, _ in found.input_token_logprobs[1:] if p is not None]
        if len(own) != num_tokens:
            raise EngineError(
                f"{self._connection.url}: scores of {len(own)} tokens, not of {num_tokens}"
            )
        scores = Scores(
            logprobs=np.asarray(own, dtype=np.float32),
            num_computed=len(token_ids) - found.cached_tokens,
        )
        if num_likeliest == 0:
            return scores
        rows = [
            [(p, token) for p, token, _ in row or () if p is not None]
            for row in found.input_top_logprobs[1:]
        ]
        return with_likeliest(scores, rows, num_likeliest, url=self._connection.url)

    async def install(self, folder: Path, version: int) -> float:
        """Pause between two steps, load in place, go on."""
        return await install_between_steps(
            self._installations,
            folder,
            version,
            pause=lambda: self._order("/pause_generation", {"mode": "in_place"}),
            load=self._load,
            go_on=self._continue,
        )

    async def _load(self, folder: str, label: str) -> None:
        await self._connection.order(
            "/update_weights_from_disk",
            {
                "model_path": folder,
                "load_format": "auto",
                "weight_version": label,
                # Requests under way keep their cache, and a flush would be refused; later ones
                # have another salt.
                "flush_cache": False,
                "abort_all_requests": False,
            },
        )

    async def _continue(self) -> None:
        await self._order("/continue_generation", {"torch_empty_cache": False})

    async def _order(self, path: str, body: dict[str, Any]) -> None:
        await self._connection.order(path, body, timeout_s=_ORDER_TIMEOUT_S)

    async def _generate(
        self, token_ids: tuple[int, ...], sampling: dict[str, Any], *, limit: int, **more: Any
    ) -> _MetaInfo:
        request_id = uuid.uuid4().hex
        body = {
            "rid": request_id,
            "input_ids": list(token_ids),
            "sampling_params": {**_UNTRUNCATED, **sampling},
            "return_logprob": True,
            "cache_salt": self._installations.salt,
            **more,
        }
        try:
            answer = await self._connection.ask("/generate", body, _Answer, limit=limit)
        except (asyncio.CancelledError, EngineError):
            # The server looks for closed connections only every few seconds.
            self._abort(request_id)
            raise
        found = answer.meta_info
        if found.finish_reason.type == "abort":
            raise EngineError(
                f"{self._connection.url} ended a request before it was complete "
                f"({found.finish_reason.message[:200]})"
            )
        return found

    def _abort(self, request_id: str) -> None:
        async def abort() -> None:
            try:
                await self._connection.order(
                    "/abort_request", {"rid": request_id}, timeout_s=_ABORT_TIMEOUT_S
                )
            except EngineError as error:
                log.debug("a request was not aborted", extra={"reason": str(error)})

        task = asyncio.get_running_loop().create_task(abort())
        self._aborting.add(task)
        task.add_done_callback(self._aborting.discard)
