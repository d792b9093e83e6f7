"""A receiver of spans as a collector has one: OTLP over gRPC, and what it was sent."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc


@dataclass(frozen=True)
class Span:
    """One span as it came over the wire."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a root."""
    start_ns: int
    end_ns: int
    kind: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    is_error: bool
    sent: Any
    """The message."""

    @property
    def raw(self) -> str:
        """Everything that was sent about it, for looking through."""
        return str(self.sent)


class Receiver(rpc.TraceServiceServicer):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._lock = threading.Lock()
        self.resources = ""
        self.before_answering: Callable[[], object] = lambda: None
        self.endpoint = ""

    def Export(self, request, context):
        self.before_answering()
        with self._lock:
            for resource_spans in request.resource_spans:
                resource = _values(resource_spans.resource.attributes)
                self.resources += str(resource)
                for scope_spans in resource_spans.scope_spans:
                    self._spans += [_span(resource["service.name"], s) for s in scope_spans.spans]
        return pb.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        with self._lock:
            return list(self._spans)

    def named(self, name: str) -> list[Span]:
        return [s for s in self.spans if s.name == name]

    def traces(self) -> dict[str, list[Span]]:
        """Spans by trace id, in the order of their beginnings."""
        found: dict[str, list[Span]] = {}
        for span in sorted(self.spans, key=lambda s: (s.start_ns, s.end_ns)):
            found.setdefault(span.trace_id, []).append(span)
        return found

    def wait_for(self, condition, *, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition(self):
            assert time.monotonic() < deadline, [s.name for s in self.spans]
            time.sleep(0.02)


@contextlib.contextmanager
def receiving(receiver: Receiver | None = None) -> Iterator[Receiver]:
    """On a port of its own for as long as the context lasts."""
    receiver = receiver or Receiver()
    server = grpc.server(ThreadPoolExecutor(4))
    rpc.add_TraceServiceServicer_to_server(receiver, server)
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(1).wait()


def _span(service: str, span: Any) -> Span:
    return Span(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        kind=span.kind,
        attributes=_values(span.attributes),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        is_error=span.status.code == 2,
        sent=span,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}
