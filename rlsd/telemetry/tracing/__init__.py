"""Spans of a group on its way from prompt to weight version; docs/tracing.md has them all.

Off unless the environment names where spans go, and then nothing of OpenTelemetry is imported and
every function here returns at once. A span carries ids, counts and closed words, never a text: its
attributes are `Attribute`s, and an error is told by its type.

A group's trace id follows from its ids, and so does its root span, so that each process can add its
part and a restart changes nothing. `Mark` is what travels with the group.
"""

from rlsd.telemetry.tracing.attributes import Attribute, Attributes, Kind
from rlsd.telemetry.tracing.groups import describe
from rlsd.telemetry.tracing.mark import Mark
from rlsd.telemetry.tracing.spans import (
    annotate,
    exemplar,
    headers,
    is_on,
    record,
    record_root,
    root_traceparent,
    span,
    start_tracing,
    stop_tracing,
    traceparent,
    within,
)

__all__ = [
    "Attribute",
    "Attributes",
    "Kind",
    "Mark",
    "annotate",
    "describe",
    "exemplar",
    "headers",
    "is_on",
    "record",
    "record_root",
    "root_traceparent",
    "span",
    "start_tracing",
    "stop_tracing",
    "traceparent",
    "within",
]
