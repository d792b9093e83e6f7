"""Every kind of check by its name: the one place to register a new one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

from rlsd.config import VerifierSection
from rlsd.errors import ConfigError
from services.verifier.checks.check import Check, Kind, Opener, P, Params, Setup
from services.verifier.checks.choice import ChoiceCheck, ChoiceParams
from services.verifier.checks.exact import ExactCheck, ExactParams
from services.verifier.checks.math.check import open_math


def _needs_nothing(check: Check[P], params: type[Params]) -> Opener:
    """The opener of a kind without processes or connections of its own."""

    @contextlib.asynccontextmanager
    async def opened(_: Setup) -> AsyncIterator[Kind]:
        yield Kind(check, params)

    return opened


OPENERS: Mapping[str, Opener] = {
    "choice": _needs_nothing(ChoiceCheck(), ChoiceParams),
    "exact": _needs_nothing(ExactCheck(), ExactParams),
    "math": open_math,
}


def wanted(section: VerifierSection) -> list[str]:
    """The kinds that a service is to have.

    Raises:
        ConfigError: `verifier.kinds` names one that does not exist.
    """
    if section.kinds is None:
        return list(OPENERS)
    if unknown := sorted(set(section.kinds) - set(OPENERS)):
        known = ", ".join(sorted(OPENERS))
        raise ConfigError(f"verifier.kinds: no kind {', '.join(unknown)}; known: {known}")
    return list(section.kinds)
