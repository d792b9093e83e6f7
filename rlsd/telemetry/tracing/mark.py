"""The mark that a group carries from stage to stage: its trace, and two moments of its way."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, replace

_FIELD = re.compile(r"(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}) (\d{1,19}) (\d{1,19})")
_TRACE_BYTES, _SPAN_BYTES = 16, 8


@dataclass(frozen=True, slots=True)
class Ids:
    """Of a trace and of its root span."""

    trace_id: int
    span_id: int


def group_ids(run_id: str, group_id: str) -> Ids:
    """Those of a group: the trace id is the first 16 bytes of sha256("RUN_ID/GROUP_ID")."""
    return _ids(f"{run_id}/{group_id}")


def step_ids(run_id: str, step: int) -> Ids:
    """Those of a step; no group has such an id."""
    return _ids(f"{run_id}/step/{step}")


def _ids(name: str) -> Ids:
    trace = hashlib.sha256(name.encode()).digest()[:_TRACE_BYTES]
    span = hashlib.sha256(f"{name}/root".encode()).digest()[:_SPAN_BYTES]
    return Ids(int.from_bytes(trace), int.from_bytes(span))


def traceparent_of(ids: Ids, *, sampled: bool) -> str:
    """W3C Trace Context, version 00."""
    return f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{int(sampled):02x}"


def ids_of(traceparent: str) -> Ids:
    """Those that `traceparent_of` wrote."""
    _, trace, span, _ = traceparent.split("-")
    return Ids(int(trace, 16), int(span, 16))


def is_sampled(traceparent: str) -> bool:
    """Its flag; nobody's traceparent is empty, and not sampled."""
    return traceparent.endswith("-01")


@dataclass(frozen=True, slots=True)
class Mark:
    """The `trace` field of a stream entry: `TRACEPARENT DISPATCHED_NS SENT_NS`."""

    traceparent: str
    """Of the group's root span, which is not there before the group has ended."""
    dispatched_ns: int
    """When the learner sent the group off; Unix time."""
    sent_ns: int
    """When the stage before sent it on."""

    @classmethod
    def begun(cls, traceparent: str) -> Mark:
        """Of a group that is sent off now."""
        now = time.time_ns()
        return cls(traceparent, now, now)

    @classmethod
    def read(cls, text: str) -> Mark | None:
        """What the field says; None when it says nothing that is known here."""
        found = _FIELD.fullmatch(text)
        return cls(found[1], int(found[2]), int(found[3])) if found else None

    def sent(self) -> Mark:
        """Of a group that is sent on now."""
        return replace(self, sent_ns=time.time_ns())

    def __str__(self) -> str:
        return f"{self.traceparent} {self.dispatched_ns} {self.sent_ns}"
