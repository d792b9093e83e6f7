"""`rlsd verify`: verdicts for the lines of a file, from a real verifier service.

| waits for | bound | unblocked by |
|---|---|---|
| a free place for a check | `_IN_FLIGHT` | the end of another check |
| the verdict that is written next | `_AHEAD` verdicts behind it | that check's end |
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from google.protobuf.message import Error as ProtobufError

from rlsd.cli.cases import Case, read_cases, survey
from rlsd.cli.tally import Tally
from rlsd.errors import ConfigError, RlsdError, ServiceError
from rlsd.local.verifier import ServiceGone, local_verifier
from rlsd.trajectory import Verdict, VerdictOutcome, VerifierSpec
from rlsd.wire.convert import spec_to_proto
from rlsd.wire.v1 import verifier_service_pb2 as pb

_IN_FLIGHT = 32
_AHEAD = 1024


def verify_command(file: Path, out: Path | None, overrides: Sequence[str]) -> None:
    """Write one JSON object a line: id, outcome, score, passed, detail, duration_s.

    Raises:
        ConfigError: a line of the file is wrong (nothing has been checked then), or the output
            cannot be written.
        ServiceError: the service does not start, or could not be kept alive to the end.
    """
    found = survey(file)
    if out is not None and out.exists() and out.samefile(file):
        raise ConfigError(f"--out {out}: is the file that is read; name another one")
    lost: str | None = None
    with _opened(out) as target, Tally(found.num_cases, shown=out is not None) as tally:

        def write(id_: Any, kind: str, verdict: Verdict) -> None:
            target.write(json.dumps(_line(id_, verdict)) + "\n")
            target.flush()
            tally.count(kind, verdict)

        lost = asyncio.run(_verify(file, found.kinds, overrides, write))
    if lost is not None:
        raise ServiceError(f"{lost}; the lines from there on are errors")


@contextlib.contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    """The output; what goes wrong while it is written is one line, and a closed pipe is none."""
    try:
        try:
            with contextlib.nullcontext(sys.stdout) if out is None else out.open("w") as target:
                yield target
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as cause:
        where = "standard output" if out is None else f"--out {out}"
        raise ConfigError(f"{where}: cannot be written ({cause.strerror})") from cause


async def _verify(
    file: Path,
    kinds: Sequence[str],
    overrides: Sequence[str],
    write: Callable[[Any, str, Verdict], None],
) -> str | None:
    """Check every case; returns why the service was lost on the way, if it was."""
    lost: str | None = None
    async with local_verifier(kinds, overrides) as verifier:

        async def check(case: Case) -> Verdict:
            nonlocal lost
            started = time.monotonic()
            try:
                if lost is not None:
                    raise ServiceError(lost)
                return await verifier.check(_request(case))
            except RlsdError as error:
                lost = str(error) if isinstance(error, ServiceGone) else lost
                return Verdict(
                    outcome=VerdictOutcome.ERROR,
                    reason=str(error),
                    duration_s=time.monotonic() - started,
                )

        await _in_order(read_cases(file), check, write)
    return lost


async def _in_order(
    cases: Iterator[Case],
    check: Callable[[Case], Coroutine[Any, Any, Verdict]],
    write: Callable[[Any, str, Verdict], None],
) -> None:
    """Check many cases at once and write their verdicts in the order of the file."""
    free = asyncio.Semaphore(_IN_FLIGHT)
    waiting: collections.deque[tuple[Any, str, asyncio.Task[Verdict]]] = collections.deque()

    async def write_next() -> None:
        id_, kind, task = waiting.popleft()
        write(id_, kind, await task)

    async with asyncio.TaskGroup() as tasks:
        for case in cases:
            await free.acquire()
            task = tasks.create_task(check(case))
            task.add_done_callback(lambda _: free.release())
            waiting.append((case.id, case.kind, task))  # a case itself may be megabytes
            while waiting[0][2].done() or len(waiting) > _AHEAD:
                await write_next()
                if not waiting:
                    break
        while waiting:
            await write_next()


def _request(case: Case) -> pb.CheckRequest:
    """The call; a task that no message can carry raises ConfigError."""
    try:
        spec = spec_to_proto(VerifierSpec(kind=case.kind, params=case.params))
        request = pb.CheckRequest(verifier=spec, reference=case.reference)
        request.SerializeToString()
    except (ValueError, TypeError, RecursionError, ProtobufError) as cause:
        what = f"{type(cause).__name__}: {cause}"[:200]
        raise ConfigError(f"invalid task: reference or params cannot be sent ({what})") from cause
    # Half a surrogate pair is no character; what the policy wrote may only cost it the reward.
    request.completion = case.response.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return request


def _line(id_: Any, verdict: Verdict) -> dict[str, Any]:
    score = verdict.reward if verdict.is_scored else None
    return {
        "id": id_,
        "outcome": verdict.outcome.value,
        "score": score,
        "passed": None if score is None else score == 1,
        "detail": verdict.reason,
        "duration_s": round(verdict.duration_s, 6),
    }
