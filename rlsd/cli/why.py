"""`rlsd why`: what each part of a run waits for, since when, and on whom. One line each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rlsd.local.addresses import RunAddresses
from rlsd.streams.stream import DeadLetter
from rlsd.telemetry.activity import duration
from rlsd.watching.asking import (
    ANSWER_S,
    MOST_LETTERS,
    Answer,
    Backlog,
    ask_queues,
    ask_service,
    ask_services,
    from_environment,
    redis_url,
)
from rlsd.watching.ended import ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one part says, or what is said of it."""

    who: str
    says: str
    is_well: bool
    """False when it cannot be asked or has stalled."""
    run_id: str = ""


def why_command(folder: Path | None) -> None:
    """Print a line for each part; exit code 1 when one cannot be asked or has stalled."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    known = from_environment() if folder is None else RunAddresses.read(folder)
    if known is None:
        assert folder is not None
        console.print(f"{ended(folder).words}: nothing runs, nothing waits")
        return
    lines = asyncio.run(ask_all(known))
    for line in lines:
        console.print(f"{line.who:<9} {line.says}")
    if not all(line.is_well for line in lines):
        raise SystemExit(1)


async def ask_all(known: RunAddresses) -> list[Line]:
    """Ask every service at once, then Redis, whose keys carry the run's id."""
    lines = [_line(answer) for answer in await ask_services(known)]
    if url := redis_url(known):
        run_id = known.run_id or next((x.run_id for x in lines if x.run_id), "")
        lines += await ask_redis(url, run_id)
    return lines


async def ask(
    name: str, address: str, probes: str | None = None, *, answer_s: float = ANSWER_S
) -> Line:
    """The line of one service."""
    return _line(await ask_service(name, address, probes, answer_s=answer_s))


def _line(answer: Answer) -> Line:
    if answer.activity is None:
        return Line(who=answer.service, says=answer.silence, is_well=False)
    return Line(
        who=answer.service,
        says=answer.activity.words() + _adds(answer),
        is_well=not answer.activity.stalled,
        run_id=answer.run_id,
    )


def _adds(answer: Answer) -> str:
    """What a service's answer adds to its activity."""
    match answer.service:
        case "learner":
            return f" (step {answer.status.step} of {answer.status.num_steps})"
        case "rollout":
            return _weights(answer.status.policy_version)
        case "teacher":
            return _weights(answer.status.teacher_version)
        case _:
            return ""


def _weights(version: int) -> str:
    return f" (weights {version})" if version >= 0 else " (no weights yet)"


async def ask_redis(url: str, run_id: str) -> list[Line]:
    """Whether Redis answers, what waits at each stage, and what was given up."""
    queues = await ask_queues(url, run_id)
    if queues.silence:
        return [Line(who="redis", says=queues.silence, is_well=False)]
    if not run_id:
        says = "reachable; no service says which run it serves"
        return [Line(who="redis", says=says, is_well=True)]
    lines = [f"reachable; {_backlog(queues.backlog)}", *_letters(queues.letters)]
    return [Line(who="redis" if n == 0 else "", says=x, is_well=True) for n, x in enumerate(lines)]


def _backlog(backlog: Sequence[Backlog]) -> str:
    found = [
        f"{x.entries} at {x.stage} (oldest {duration(x.oldest_age_s)})"
        for x in backlog
        if x.entries
    ]
    return ", ".join(found) or "nothing is at any stage"


def _letters(letters: Sequence[DeadLetter]) -> list[str]:
    """Dead letters by stage and reason, commonest first."""
    if not letters:
        return ["no dead letters"]
    many = "or more " if len(letters) == MOST_LETTERS else ""
    reasons = Counter(f"at {letter.stage}: {letter.reason}" for letter in letters)
    said = [f"{count} × {reason}" for reason, count in reasons.most_common(5)]
    noun = "dead letter" if len(letters) == 1 else "dead letters"
    return [f"{len(letters)} {many}{noun}", *said]
