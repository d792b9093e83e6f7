"""Every kind of check by its name: the one place to register a new one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

from rlsd.config import VerifierSection
from rlsd.errors import ConfigError
from services.verifier.checks.check import Check, Kind, Opener, P, Params, Setup
from services.verifier.checks.choice import ChoiceCheck, ChoiceParams
from services.verifier.checks.code.check import open_code
from services.verifier.checks.composite import CompositeCheck, CompositeParams
from services.verifier.checks.exact import ExactCheck, ExactParams
from services.verifier.checks.http.check import open_http
from services.verifier.checks.math.check import open_math
from services.verifier.checks.numeric import NumericCheck, NumericParams
from services.verifier.checks.reasoning_gym.check import open_reasoning_gym
from services.verifier.checks.regex import RegexCheck, RegexParams
from services.verifier.checks.schema.check import open_schema
from services.verifier.checks.sql.check import open_sql


def _needs_nothing(check: Check[P], params: type[Params]) -> Opener:
    """The opener of a kind without processes or connections of its own."""

    @contextlib.asynccontextmanager
    async def opened(_: Setup) -> AsyncIterator[Kind]:
        yield Kind(check, params)

    return opened


@contextlib.asynccontextmanager
async def _open_composite(setup: Setup) -> AsyncIterator[Kind]:
    yield Kind(CompositeCheck(setup.find), CompositeParams, is_bounded=True)  # its parts may wait


OPENERS: Mapping[str, Opener] = {
    "choice": _needs_nothing(ChoiceCheck(), ChoiceParams),
    "code": open_code,
    "composite": _open_composite,
    "exact": _needs_nothing(ExactCheck(), ExactParams),
    "http": open_http,
    "math": open_math,
    "numeric": _needs_nothing(NumericCheck(), NumericParams),
    "reasoning_gym": open_reasoning_gym,
    "regex": _needs_nothing(RegexCheck(), RegexParams),
    "schema": open_schema,
    "sql": open_sql,
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
