"""Trajectories of several turns: draw one, call what it called, append the answers, go on.

    prompt | turn 0 … <end> | answers | turn 1 … <end> | answers | turn 2 … <end>
             drawn            read      drawn            read      drawn

| a member waits for | bound | unblocked by |
|---|---|---|
| a turn | the engine's own | its tokens |
| the answers of a turn | the tools' `total_timeout_s` | the last of them, or a ToolError |

Each member goes its own way: none waits for a sibling's turn or tool.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from rlsd.images.placing import Chat
from rlsd.telemetry.logs import withhold
from rlsd.trajectory import (
    FinishReason,
    FloatArray,
    Group,
    IntArray,
    ToolCall,
    ToolTurn,
    Trajectory,
    VersionSpan,
)
from services.rollout.engines.engine import Completion, Engine, GenerationRequest
from services.rollout.seeds import trajectory_seed, turn_seed
from services.rollout.tools.calls import written_calls
from services.rollout.tools.chat import ChatTemplate
from services.rollout.tools.tool import Caller
from services.rollout.tools.toolbox import Toolbox

_T = TypeVar("_T")


class Conversation:
    """Draws trajectories with an engine, a chat template and tools."""

    def __init__(
        self, engine: Engine, chat: ChatTemplate, toolbox: Toolbox, *, max_turns: int
    ) -> None:
        self._engine = engine
        self._chat = chat
        self._toolbox = toolbox
        self._max_turns = max_turns

    def tokenize(self, messages: Chat) -> list[int]:
        """Ids of a chat up to where the first turn begins; they show the tools."""
        return self._chat.prompt(messages)

    async def trajectories(self, group: Group, prompt_ids: Sequence[int]) -> list[Trajectory]:
        """One for each member.

        Raises:
            ToolError: a tool could not be asked; the whole group fails.
            EngineError, WeightsError, UnfitError: as the engine's.
        """
        members = range(group.sampling.num_completions)
        return await _all([self._draw(group, m, prompt_ids) for m in members])

    async def _draw(self, group: Group, member: int, prompt_ids: Sequence[int]) -> Trajectory:
        drawn = _Drawn()
        for turn in range(self._max_turns):
            completion = await self._turn(group, member, turn, prompt_ids, drawn)
            drawn.add(completion)
            calls = written_calls(self._chat.words(completion.token_ids))
            # A turn that ended otherwise, cut or by another token, has no exact continuation.
            goes_on = calls and completion.token_ids[-1] == self._chat.end_id
            if not goes_on:
                return drawn.trajectory(member, completion.finish_reason)
            if turn + 1 == self._max_turns:
                break
            answered = await _all(
                [
                    self._toolbox.call(call, _caller(group, member, turn, number))
                    for number, call in enumerate(calls)
                ]
            )
            answered = [replace(c, answer=self._chat.readable(c.answer)) for c in answered]
            between = self._chat.between(answered)
            if drawn.num_tokens + len(between) >= group.sampling.max_tokens:
                drawn.read([], answered)
                return drawn.trajectory(member, FinishReason.LENGTH)
            drawn.read(between, answered)
        return drawn.trajectory(member, FinishReason.TURNS)

    async def _turn(
        self, group: Group, member: int, turn: int, prompt_ids: Sequence[int], drawn: _Drawn
    ) -> Completion:
        sampling = group.sampling
        [completion] = await self._engine.generate(
            GenerationRequest(
                prompt_ids=(*prompt_ids, *drawn.token_ids.tolist()),
                seeds=(turn_seed(trajectory_seed(group, member), turn),),
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens - drawn.num_tokens,
                required_policy_version=group.required_policy_version,
                images=group.prompt.images,
            )
        )
        return completion


class _Drawn:
    """A trajectory on its way."""

    def __init__(self) -> None:
        self.token_ids: IntArray = np.empty(0, dtype=np.int32)
        self._logprobs: FloatArray = np.empty(0, dtype=np.float32)
        self._text = ""
        self._spans: list[VersionSpan] = []
        self._versions: set[int] = set()
        self._turns: list[ToolTurn] = []

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    def add(self, turn: Completion) -> None:
        """A turn of the policy."""
        start = self.num_tokens
        self._append(turn.token_ids, turn.rollout_logprobs)
        self._text = turn.text
        withhold(turn.text)
        self._versions |= {turn.min_policy_version, turn.max_policy_version}
        whole = VersionSpan(version=turn.min_policy_version, start=0, end=len(turn.token_ids))
        self._spans += [
            replace(s, start=start + s.start, end=start + s.end) for s in turn.spans or (whole,)
        ]

    def read(self, between: Sequence[int], calls: Sequence[ToolCall]) -> None:
        """The answers to it, with the template around them."""
        start = self.num_tokens
        self._append(np.asarray(between, np.int32), np.zeros(len(between), np.float32))
        self._turns.append(ToolTurn(start=start, end=self.num_tokens, calls=tuple(calls)))

    def trajectory(self, member: int, finish_reason: FinishReason) -> Trajectory:
        return Trajectory(
            member=member,
            token_ids=self.token_ids,
            rollout_logprobs=self._logprobs,
            text=self._text,
            finish_reason=finish_reason,
            min_policy_version=min(self._versions),
            max_policy_version=max(self._versions),
            spans=tuple(self._spans) if len(self._versions) > 1 else (),
            tool_turns=tuple(self._turns),
        )

    def _append(self, token_ids: IntArray, logprobs: FloatArray) -> None:
        self.token_ids = np.concatenate([self.token_ids, token_ids])
        self._logprobs = np.concatenate([self._logprobs, logprobs])


def _caller(group: Group, member: int, turn: int, call: int) -> Caller:
    """Who calls: never more of the prompt than its id.

    One id an evaluation, too: its groups have the same names at every step, and greedy and sampled
    ones at one.
    """
    sampling = group.sampling
    key = (
        f"{group.run_id}/{group.group_id}/{member}/{group.required_policy_version}"
        f"/{sampling.temperature}/{sampling.num_completions}"
    )
    return Caller(
        run_id=group.run_id,
        prompt_id=group.prompt.id,
        group_id=group.group_id,
        trajectory_id=hashlib.sha256(key.encode()).hexdigest()[:32],
        member=member,
        turn=turn,
        call=call,
    )


async def _all(works: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results in order; the first error ends the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()  # of what is done: no effect
        await asyncio.wait(tasks)
