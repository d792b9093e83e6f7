"""All that is OpenTelemetry's; imported only when spans go somewhere.

| waits for | bound | else |
|---|---|---|
| a place in the queue of ended spans | none: a full one drops | `rlsd_spans_dropped_total` |
| an export, on a thread of its own | `OTEL_EXPORTER_OTLP_TIMEOUT` | its spans count as dropped |
| the last export | `stop`'s seconds | the process ends all the same |
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision

from rlsd.telemetry.metrics import SPANS_DROPPED
from rlsd.telemetry.tracing.attributes import Attribute, Attributes, Kind
from rlsd.telemetry.tracing.mark import Ids, ids_of
from rlsd.telemetry.tracing.pace import Pace

_KINDS = {
    Kind.INTERNAL: trace.SpanKind.INTERNAL,
    Kind.CLIENT: trace.SpanKind.CLIENT,
    Kind.SERVER: trace.SpanKind.SERVER,
}
_Taken = Callable[[int], None]

_MOST_QUEUED = 2048
"""What OpenTelemetry has as the default of OTEL_BSP_MAX_QUEUE_SIZE."""


class Sdk:
    """A tracer provider of our own: not the global one, which libraries would write to."""

    def __init__(self, service: str, *, run_id: str) -> None:
        self._run_id = run_id
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            resource=Resource.create(_resource(service)),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        queued = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or _MOST_QUEUED)
        self._provider.add_span_processor(_Queue(OTLPSpanExporter(), max_queue_size=queued))
        self._tracer = self._provider.get_tracer("rlsd")
        self._pace = None if os.environ.get("OTEL_TRACES_SAMPLER") else Pace()

    def stop(self, within_s: float) -> None:
        """Send what is left; not waited for any longer than this."""
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(within_s)

    def is_sampled(self, trace_id: int) -> bool:
        """What the sampler says of a new trace; where none is named, the pace."""
        if self._pace is not None:
            return self._pace.admits(trace_id)
        nowhere = trace.set_span_in_context(trace.INVALID_SPAN)
        found = self._provider.sampler.should_sample(nowhere, trace_id, "group")
        return found.decision is Decision.RECORD_AND_SAMPLE

    @contextlib.contextmanager
    def span(self, name: str, parent: str, kind: Kind, attributes: Attributes) -> Iterator[None]:
        """A current span; only the type of what is raised stands on it.

        Below nothing, there is none: what an evaluation asks for belongs to no group.
        """
        above = _remote(parent) if parent else trace.get_current_span()
        if not above.get_span_context().is_valid:
            yield
            return
        with self._tracer.start_as_current_span(
            name,
            context=trace.set_span_in_context(above),
            kind=_KINDS[kind],
            attributes=self._bound(attributes),
            record_exception=False,
            set_status_on_exception=False,
        ) as started:
            try:
                yield
            except BaseException as error:
                started.set_attribute(Attribute.ERROR_TYPE.value, _error_type(error))
                started.set_status(trace.StatusCode.ERROR)
                raise

    @contextlib.contextmanager
    def within(self, parent: str) -> Iterator[None]:
        """Under a span that somebody else ends."""
        with trace.use_span(_remote(parent), record_exception=False, set_status_on_exception=False):
            yield

    def record(
        self,
        name: str,
        parent: str,
        between_ns: tuple[int, int],
        attributes: Attributes,
        links: Sequence[str],
    ) -> None:
        """A span from one moment to another."""
        self._tracer.start_span(
            name,
            context=trace.set_span_in_context(_remote(parent)),
            attributes=self._bound(attributes),
            links=[trace.Link(_remote(link).get_span_context()) for link in links],
            start_time=between_ns[0],
        ).end(between_ns[1])

    def record_root(
        self,
        name: str,
        root: str,
        between_ns: tuple[int, int],
        attributes: Attributes,
        *,
        failed: bool,
    ) -> None:
        """A span without a parent, with the ids that others have named already."""
        with self._ids.giving(ids_of(root)):
            made = self._tracer.start_span(
                name,
                context=trace.set_span_in_context(trace.INVALID_SPAN),
                attributes=self._bound(attributes),
                start_time=between_ns[0],
            )
        if failed:
            made.set_status(trace.StatusCode.ERROR)
        made.end(between_ns[1])

    def annotate(self, attributes: Attributes) -> None:
        """More attributes of the current span."""
        trace.get_current_span().set_attributes({k.value: v for k, v in attributes.items()})

    def traceparent(self) -> str:
        """Of the current span; empty when there is none."""
        found = trace.get_current_span().get_span_context()
        if not found.is_valid:
            return ""
        sampled = int(found.trace_flags.sampled)
        return f"00-{found.trace_id:032x}-{found.span_id:016x}-{sampled:02x}"

    def exemplar(self) -> dict[str, str] | None:
        """The ids of the current span, if it is sampled."""
        found = trace.get_current_span().get_span_context()
        if not (found.is_valid and found.trace_flags.sampled):
            return None
        return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}

    def _bound(self, attributes: Attributes) -> dict[str, str | int | bool]:
        bound = {Attribute.RUN_ID.value: self._run_id} if self._run_id else {}
        return bound | {k.value: v for k, v in attributes.items()}


def _resource(service: str) -> dict[str, str]:
    """Who says it; the name given by the environment goes first."""
    own = {SERVICE_INSTANCE_ID: f"{socket.gethostname()}-{os.getpid()}"}
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return own if named else own | {SERVICE_NAME: service}


def _error_type(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code().name
    return type(error).__name__


def _remote(traceparent: str) -> trace.NonRecordingSpan:
    """The span that a traceparent of version 00 names; one that names none is nobody's child."""
    try:
        _, trace_id, span_id, flags = traceparent.split("-")[:4]
        context = trace.SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=trace.TraceFlags(int(flags, 16) & trace.TraceFlags.SAMPLED),
        )
    except ValueError:
        context = trace.INVALID_SPAN_CONTEXT
    return trace.NonRecordingSpan(context)


class _GivenIds(RandomIdGenerator):
    """Random ids, but for the one root that is being made."""

    def __init__(self) -> None:
        self._given: contextvars.ContextVar[Ids | None] = contextvars.ContextVar(
            "given", default=None
        )

    @contextlib.contextmanager
    def giving(self, ids: Ids) -> Iterator[None]:
        token = self._given.set(ids)
        try:
            yield
        finally:
            self._given.reset(token)

    def generate_trace_id(self) -> int:
        given = self._given.get()
        return given.trace_id if given else super().generate_trace_id()

    def generate_span_id(self) -> int:
        given = self._given.get()
        return given.span_id if given else super().generate_span_id()

    def is_trace_id_random(self) -> bool:
        return self._given.get() is None


class _Queue(BatchSpanProcessor):
    """OpenTelemetry's bounded queue with a count of what it drops, which it only logs."""

    def __init__(self, exporter: SpanExporter, *, max_queue_size: int) -> None:
        self._free = max_queue_size
        self._lock = threading.Lock()
        super().__init__(_Counted(exporter, self._taken), max_queue_size=max_queue_size)

    def on_end(self, span: ReadableSpan) -> None:
        if span.context and span.context.trace_flags.sampled:
            with self._lock:
                is_full = self._free == 0
                self._free -= not is_full
            if is_full:
                SPANS_DROPPED.inc()
        super().on_end(span)

    def _taken(self, num: int) -> None:
        with self._lock:
            self._free += num


class _Counted(SpanExporter):
    """Says how many spans were taken from the queue, and counts those that were not sent."""

    def __init__(self, exporter: SpanExporter, taken: _Taken) -> None:
        self._exporter = exporter
        self._taken = taken

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._taken(len(spans))
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                SPANS_DROPPED.inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
