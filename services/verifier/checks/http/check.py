"""`http`: a verifier that the operator has configured decides, in its own words and shape.

    [verifier.http.support]                               the run's configuration
    url = "https://checks.example.com/v1/verify"

    {"kind": "http", "params": {"verifier": "support", "task": {"rubric": 3}}}      a record

A record names a verifier and never an address. The guards are those of `rlsd.verifier_client`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic import Field

from rlsd.config import HttpVerifierSection
from rlsd.telemetry.activity import Obstacle
from rlsd.trajectory import Verdict, VerdictOutcome
from rlsd.verifier_client.client import TooLarge, http_verifier
from rlsd.verifier_contract.native import ChatMessage, VerifyRequest
from services.verifier.checks.check import InvalidTask, Kind, Params, Setup, Task, scored
from services.verifier.checks.http.canary import WatchedJudge, watched
from services.verifier.checks.http.function import open_function
from services.verifier.checks.http.judge import Judge

log = logging.getLogger(__name__)


class HttpParams(Params):
    """Which verifier is asked, and what it is told of the task."""

    verifier: str
    """A name of the configuration's `[verifier.http.NAME]`."""
    task: dict[str, Any] = Field(default_factory=dict)
    """Passed on as it is."""


@contextlib.asynccontextmanager
async def open_http(setup: Setup) -> AsyncIterator[Kind]:
    """The kind, with its connections and the children of its functions.

    Raises:
        ConfigError: an address, a secret, a certificate or a canary file is wrong.
        VerifierError: a function cannot be imported.
    """
    async with contextlib.AsyncExitStack() as stack:
        judges: dict[str, Judge] = {}
        for name, section in setup.section.http.items():
            judge = await stack.enter_async_context(
                _open_judge(name, section, num_children=setup.section.workers)
            )
            if section.canary_file is not None:
                judge = await stack.enter_async_context(watched(name, section, judge))
            else:
                log.warning(
                    "no canary_file",
                    extra={
                        "verifier": name,
                        "reason": "a verifier that says the same to everything is not noticed",
                    },
                )
            judges[name] = judge
        check = HttpCheck(judges)
        yield Kind(check, HttpParams, is_bounded=True, obstacle=check.obstacle, doubts=check.doubts)


@contextlib.asynccontextmanager
async def _open_judge(
    name: str, section: HttpVerifierSection, *, num_children: int
) -> AsyncIterator[Judge]:
    if section.is_function:
        async with open_function(name, section, num_children=num_children) as function:
            yield function
    else:
        yield http_verifier(name, section)


class HttpCheck:
    """The verdict of the verifier that the task names."""

    def __init__(self, judges: Mapping[str, Judge]) -> None:
        self._judges = judges

    def obstacle(self) -> Obstacle | None:
        """What the checks of all verifiers wait for; from any thread."""
        found = [o for judge in self._judges.values() if (o := judge.obstacle()) is not None]
        if not found:
            return None
        found.sort(key=lambda obstacle: -obstacle.for_s)
        return Obstacle(detail="; ".join(o.detail for o in found), for_s=found[0].for_s)

    def doubts(self) -> str:
        """Which verifiers are not believed and why; empty while all are."""
        watched = (j for j in self._judges.values() if isinstance(j, WatchedJudge))
        return "; ".join(judge.doubt for judge in watched if judge.doubt)

    async def __call__(self, task: Task[HttpParams], completion: str) -> Verdict:
        """Its score as a reward; a request that the completion alone makes too large scores 0."""
        name = task.params.verifier
        judge = self._judges.get(name)
        if judge is None:
            known = ", ".join(sorted(self._judges)) or "none"
            raise InvalidTask(f"no verifier {name[:40]!r} is configured; known: {known}")
        request = _request(task, completion)
        try:
            judgement = await judge.judge(request)
        except TimeoutError as error:
            return Verdict(outcome=VerdictOutcome.TIMEOUT, reason=str(error))
        except TooLarge as error:
            if len(completion) < _LARGE:
                raise InvalidTask(str(error)) from error
            return scored(0.0, f"{error}, most of it the completion")
        return scored(judgement.reward, judgement.detail)


_LARGE = 100_000
"""Characters of a completion that may be to blame for the size of its request."""


def _request(task: Task[HttpParams], completion: str) -> VerifyRequest:
    origin = task.origin
    return VerifyRequest(
        verifier=task.params.verifier,
        run_id=origin.run_id,
        group_id=origin.group_id,
        trajectory_id=origin.trajectory_id,
        policy_version=origin.policy_version,
        messages=[ChatMessage(role=m.role, content=_sendable(m.content)) for m in origin.messages],
        completion=_sendable(completion),
        reference=_sendable(task.reference),
        task=task.params.task,
    )


def _sendable(text: str) -> str:
    """Without halves of surrogate pairs, which many JSON readers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")
