"""SandboxFusion's `/run_code`: the last code block runs on `task.stdin`, the reference is stdout.

Source: bytedance SandboxFusion, version 469de08.
"""

from __future__ import annotations

import re
from typing import Any

from rlsd.verifier_client.adapters.adapter import Adapter, mapping
from rlsd.verifier_contract.native import (
    Answer,
    ContractError,
    ErrorAnswer,
    ScoredAnswer,
    VerifyRequest,
)

_FENCE = re.compile(r"^```[^\n`]*$", re.MULTILINE)
_SETTINGS = ("compile_timeout", "run_timeout", "memory_limit_MB", "files")


def last_block(completion: str) -> str:
    """What stands in the last closed code fence; all of the text without one."""
    fences = list(_FENCE.finditer(completion))
    if len(fences) < 2:
        return completion
    start, end = fences[len(fences) // 2 * 2 - 2 : len(fences) // 2 * 2]
    return completion[start.end() : end.start()].strip("\n")


def _body(request: VerifyRequest) -> dict[str, Any]:
    task = request.task
    body = {
        "code": last_block(request.completion),
        "language": task.get("language", "python"),
        "stdin": task.get("stdin", ""),
    }
    return body | {name: task[name] for name in _SETTINGS if name in task}


def _answer(value: Any, request: VerifyRequest) -> Answer:
    """1 when the program ended well and printed the reference, trailing space aside."""
    found = mapping(value)
    match found.get("status"):
        case "SandboxError":
            return ErrorAnswer(retryable=True, code="SandboxError")
        case "Failed":
            return ScoredAnswer(score=0.0, passed=False, detail="the program failed")
        case "Success":
            printed = mapping(found.get("run_result")).get("stdout")
            if not isinstance(printed, str):
                raise ContractError("run_result.stdout is not a text")
            passed = _lines(printed) == _lines(request.reference)
            return ScoredAnswer(score=float(passed), passed=passed, detail="compared the output")
        case other:
            raise ContractError(f"status is {str(other)[:40]!r}")


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


SANDBOX_FUSION = Adapter(path="/run_code", body=_body, answer=_answer)
