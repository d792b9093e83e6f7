"""What is found out about a server before it is used: settings that would make its numbers wrong.

The settings are the server's, and its answers look healthy under the wrong ones.
"""

from __future__ import annotations

import logging

import numpy as np

from rlsd.errors import ConfigError
from rlsd.inference.engine import InferenceEngine, SamplingRequest, ScoringRequest

log = logging.getLogger(__name__)

_TEMPERATURE = 2.0
"""The highest that vLLM takes."""
_NUM_TOKENS = 16


async def greet(engine: InferenceEngine, *, url: str, tempered: str, seeded: str) -> None:
    """Draw a completion twice at a high temperature, and score it at temperature 1.

    Args:
        tempered: the setting that makes log-probs those of the distribution drawn from.
        seeded: the setting that makes seeds fix completions.

    Raises:
        ConfigError: log-probs are not those of the distribution that was drawn from.
        EngineError: the server does not answer, or not so.
    """
    wanted = SamplingRequest(
        prompt_ids=(0,), seed=1, temperature=_TEMPERATURE, top_p=1.0, max_tokens=_NUM_TOKENS
    )
    drawn, again = [await engine.sample(wanted) for _ in range(2)]
    scored = await engine.score(
        ScoringRequest(prefix_ids=(0,), completion_ids=tuple(drawn.token_ids.tolist()))
    )
    # Temperature takes half of what distinguishes one token's log-prob from another's;
    # rounding takes a few hundredths, also in bfloat16.
    spread = float(np.ptp(scored.logprobs))
    difference = float(np.abs(drawn.logprobs - scored.logprobs).max())
    if difference < spread / 10:
        raise ConfigError(
            f"{url} gives log-probs from before temperature, which are not those that tokens were "
            f"drawn with; {tempered}"
        )
    if drawn.token_ids.tolist() != again.token_ids.tolist():
        log.warning(
            "the engine's server does not heed seeds",
            extra={"address": url, "remedy": seeded},
        )
