"""The method that a run names: what the learner trains with and what a replay repeats."""

from __future__ import annotations

import logging
from dataclasses import replace

from rlsd.config import RunConfig
from rlsd.errors import ConfigError
from rlsd.objectives.methods import Method, MismatchKind, SurrogateKind, method_named

log = logging.getLogger(__name__)


def configured_method(config: RunConfig) -> Method:
    """The configured method; off-policy batches get a weight against their sampler's age."""
    overrides = config.method.overrides()
    try:
        method = method_named(config.method.name, **overrides)
        weighs_by_itself = method.surrogate in (SurrogateKind.IMPORTANCE, SurrogateKind.DPPO)
        if config.run.max_staleness and "mismatch" not in overrides and not weighs_by_itself:
            log.info("mismatch weight on", extra={"mismatch": MismatchKind.TOKEN_TIS.value})
            method = replace(method, mismatch=MismatchKind.TOKEN_TIS)
    except ValueError as cause:
        raise ConfigError(f"method: {cause}") from cause
    return method
