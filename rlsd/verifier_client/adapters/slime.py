"""slime's remote reward model: the JSON is the reward, or an object that holds it.

Source: slime `rm_hub.remote_rm`, version 624b824a.
"""

from __future__ import annotations

from typing import Any

from rlsd.verifier_client.adapters.adapter import Adapter, prompt_text
from rlsd.verifier_client.adapters.template import number_at
from rlsd.verifier_contract.native import VerifyRequest


def slime(answer: str) -> Adapter:
    """The adapter; `answer` is the reward key (a JMESPath), empty when the JSON is the reward."""
    return Adapter(path="/", body=_body, answer=number_at(answer or "@"))


def _body(request: VerifyRequest) -> dict[str, Any]:
    return {
        "prompt": prompt_text(request),
        "response": request.completion,
        "label": request.reference,
    }
