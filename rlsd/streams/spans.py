"""The spans of a delivery: its wait for a worker, and the work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery
from rlsd.telemetry import tracing
from rlsd.telemetry.tracing import Attribute, Attributes, Mark

NAMES = {Stage.ROLLOUT: "rollout.generate", Stage.VERIFY: "verify", Stage.TEACH: "teach"}
"""Of the work at a stage, whichever way a group came there."""


def waited(delivery: Delivery) -> None:
    """Its wait is over: since the stage before sent it on, earlier deliveries included."""
    if tracing.is_on() and (mark := Mark.read(delivery.trace)) is not None:
        tracing.record(
            "queue.wait",
            parent=mark.traceparent,
            start_ns=mark.sent_ns,
            attributes=_attributes(delivery),
        )


@contextlib.contextmanager
def worked_on(delivery: Delivery) -> Iterator[None]:
    """One attempt at it."""
    mark = Mark.read(delivery.trace) if tracing.is_on() else None
    if mark is None:
        yield
        return
    with tracing.span(
        NAMES[delivery.stage], parent=mark.traceparent, attributes=_attributes(delivery)
    ):
        yield


def sent_on(delivery: Delivery) -> Delivery:
    """The delivery as it goes to its next stage: from now on it waits there."""
    mark = Mark.read(delivery.trace) if tracing.is_on() else None
    return delivery if mark is None else replace(delivery, trace=str(mark.sent()))


def _attributes(delivery: Delivery) -> Attributes:
    return {
        Attribute.GROUP_ID: delivery.group_id,
        Attribute.STAGE: delivery.stage.value,
        Attribute.DELIVERIES: delivery.deliveries,
    }
