"""From a call that the policy wrote to its answer: which tool, whether the arguments fit, asked.

| a call waits for | bound | unblocked by |
|---|---|---|
| a free place at its tool | `max_concurrency` calls | the end of another call |
| its answer | the tool's `total_timeout_s` | the answer, or a ToolError |
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jsonschema_rs

from rlsd.errors import ConfigError, ToolError
from rlsd.telemetry.activity import WORTH_SAYING_S, Obstacle
from rlsd.trajectory import CallOutcome, ToolCall
from services.rollout import metrics
from services.rollout.tools.calls import Call, malformed, plain
from services.rollout.tools.tool import Caller, Question, Tool

_SHOWN = 300


class Bound:
    """A tool with what its calls must be."""

    def __init__(
        self, tool: Tool, *, parameters: Mapping[str, Any], max_concurrency: int, total_s: float
    ) -> None:
        """Raises ConfigError when the schema is none."""
        self.tool = tool
        self.places = asyncio.Semaphore(max_concurrency)
        self.total_s = total_s
        try:
            # Linear patterns: the policy writes what they are matched with.
            self._schema = jsonschema_rs.validator_for(
                dict(parameters), retriever=_refuse, pattern_options=jsonschema_rs.RegexOptions()
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as cause:
            why = str(cause).partition("\n")[0][:_SHOWN]
            raise ConfigError(f"parameters are no JSON schema ({why})") from cause

    def fault(self, arguments: Mapping[str, Any]) -> str:
        """What is wrong with the arguments; empty when they fit."""
        try:
            error = next(self._schema.iter_errors(dict(arguments)), None)
        except ValueError as cause:  # nested too deeply for the validator
            return f"arguments cannot be checked: {cause}"[:_SHOWN]
        if error is None:
            return ""
        where = "/".join(str(part) for part in error.instance_path)
        said = f"arguments do not fit{f' at {where}' if where else ''}: {error.message}"
        return said[:_SHOWN]


class Toolbox:
    """The tools of a run by name."""

    def __init__(self, tools: Mapping[str, Bound]) -> None:
        self._tools = tools
        self._under_way: dict[object, tuple[str, float]] = {}

    def obstacle(self) -> Obstacle | None:
        """The call that has waited longest, when that is worth saying; from any thread."""
        calls = list(self._under_way.copy().values())
        if not calls or (age_s := time.monotonic() - calls[0][1]) < WORTH_SAYING_S:
            return None
        name, total_s = calls[0][0], self._tools[calls[0][0]].total_s
        words = f"the tool {name!r}, {total_s:g} s at most for a call; {len(calls)} under way"
        return Obstacle(detail=words, for_s=age_s)

    async def call(self, call: Call | ToolCall, caller: Caller) -> ToolCall:
        """The call with its answer.

        Raises:
            ToolError: the tool could not be asked.
        """
        answered = call if isinstance(call, ToolCall) else await self._answered(call, caller)
        is_known = answered.tool in self._tools
        metrics.observe_call(answered.tool if is_known else "", answered.outcome)
        return answered

    async def _answered(self, call: Call, caller: Caller) -> ToolCall:
        bound = self._tools.get(call.tool)
        if bound is None:
            known = ", ".join(sorted(self._tools))
            return ToolCall(
                tool=plain(call.tool)[:_SHOWN],
                arguments=call.text,
                answer=f"error: there is no such tool; there is {known}",
                outcome=CallOutcome.UNKNOWN,
            )
        if fault := bound.fault(call.arguments):
            return malformed(call.tool, call.text, fault)
        question = Question(tool=call.tool, arguments=call.arguments, caller=caller)
        with self._counted(call.tool):
            async with bound.places:
                started = time.monotonic()
                answer = await bound.tool.answer(question)
        return ToolCall(
            tool=call.tool,
            arguments=call.text,
            answer=plain(answer.text),
            outcome=CallOutcome.REFUSED if answer.is_refusal else CallOutcome.ANSWERED,
            duration_s=time.monotonic() - started,
        )

    @contextlib.contextmanager
    def _counted(self, tool: str) -> Iterator[None]:
        mark, began_at = object(), time.monotonic()
        self._under_way[mark] = (tool, began_at)
        try:
            yield
        except ToolError:
            metrics.observe_call(tool, None)
            raise
        finally:
            del self._under_way[mark]
            metrics.TOOL_DURATION.labels(tool).observe(time.monotonic() - began_at)


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"reference to {uri[:80]!r}: other documents are never fetched")
