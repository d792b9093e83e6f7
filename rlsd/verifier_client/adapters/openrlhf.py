"""OpenRLHF's remote reward model: lists of one.

Source: OpenRLHF `remote_rm`, version 3c3be623.
"""

from __future__ import annotations

from typing import Any

from rlsd.verifier_client.adapters.adapter import Adapter, finite_number, mapping, prompt_text
from rlsd.verifier_contract.native import (
    Answer,
    ContractError,
    ScoredAnswer,
    VerifyRequest,
)


def _body(request: VerifyRequest) -> dict[str, Any]:
    prompt = prompt_text(request)
    return {
        "query": [prompt + request.completion],
        "prompts": [prompt],
        "labels": [request.reference],
    }


def _answer(value: Any, _: VerifyRequest) -> Answer:
    """`rewards[0]`; `scores` are for its own filters and `extra_logs` for its own charts."""
    rewards = mapping(value).get("rewards")
    if not isinstance(rewards, list) or len(rewards) != 1:
        raise ContractError("rewards is not a list of one number")
    return ScoredAnswer(score=finite_number(rewards[0], "rewards[0]"))


OPENRLHF = Adapter(path="/get_reward", body=_body, answer=_answer)
