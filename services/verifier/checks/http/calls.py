"""Calls an operator's reward function; runs in a child process.

    verl    compute_score(data_source, solution_str, ground_truth, extra_info) -> float | {"score"}
    trl     reward(prompts, completions, **columns) -> [float | None]       None: not applicable
    areal   reward(prompt, completions, prompt_ids, completion_ids, **columns) -> float

Sources: verl 1dda039b, TRL f2cd5771, AReaL 4aef98d8. Token ids are not known here: the lists are
empty.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any


def warm_up() -> None:
    """Nothing: the function is not known before the first question."""


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """`{"score"}` of a request, `{"error"}`, or nothing when only the import was asked for."""
    try:
        function = _load(question["function"])
        if "request" not in question:
            return {}
        return {"score": _call(question["signature"], function, question["request"])}
    except Exception as error:  # noqa: BLE001  whatever an operator's function raises is an answer
        return {"error": f"{type(error).__name__}: {str(error)[:200]}"}


@functools.cache
def _load(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function = getattr(importlib.import_module(module), name)
    if not callable(function):
        raise TypeError(f"{path} is not a function")
    return function  # type: ignore[no-any-return]


def _call(signature: str, function: Callable[..., Any], request: dict[str, Any]) -> float:
    match signature:
        case "verl":
            result = _run(function(**_verl(request)))
            return _number(result["score"] if isinstance(result, dict) else result)
        case "trl":
            results = _run(function(**_trl(request)))
            if len(results) != 1:
                raise ValueError(f"{len(results)} rewards for one completion")
            return _number(results[0])
        case "areal":
            return _number(_run(function(**_areal(request))))
        case other:
            raise ValueError(f"unknown signature {other!r}")


def _verl(request: dict[str, Any]) -> dict[str, Any]:
    task = request["task"]
    return {
        "data_source": task.get("data_source", ""),
        "solution_str": request["completion"],
        "ground_truth": request["reference"],
        "extra_info": task.get("extra_info", {}),
    }


def _trl(request: dict[str, Any]) -> dict[str, Any]:
    """Conversational form: lists of turns, as TRL passes what has `messages`."""
    columns = {name: [value] for name, value in request["task"].items()}
    columns.setdefault("ground_truth", [request["reference"]])
    completion = [{"role": "assistant", "content": request["completion"]}]
    return columns | {"prompts": [request["messages"]], "completions": [completion]}


def _areal(request: dict[str, Any]) -> dict[str, Any]:
    prompt = "\n\n".join(message["content"] for message in request["messages"])
    own = {
        "prompt": prompt,
        "completions": request["completion"],
        "prompt_ids": [],
        "completion_ids": [],
    }
    return {"answer": request["reference"], **request["task"], **own}


def _run(result: Any) -> Any:
    async def awaited() -> Any:
        return await result

    return asyncio.run(awaited()) if inspect.isawaitable(result) else result


def _number(value: Any) -> float:
    if value is None:
        raise ValueError("no score: the function says that it does not apply")
    if isinstance(value, str):
        raise TypeError("the score is a text")
    number = float(value)
    if number - number != 0:
        raise ValueError(f"the score is {number}")
    return number
