"""Making spans; each function returns at once while tracing is off."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rlsd.errors import ConfigError
from rlsd.telemetry.tracing.attributes import Attributes, Kind
from rlsd.telemetry.tracing.mark import Ids, is_sampled, traceparent_of

if TYPE_CHECKING:
    from rlsd.telemetry.tracing.sdk import Sdk

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_FLUSH_S = 3.0

_sdk: Sdk | None = None


def start_tracing(
    service: str, *, run_id: str = "", environment: Mapping[str, str] = os.environ
) -> None:
    """Send this process' spans to where the OTEL_* variables say; without an endpoint, nothing.

    Args:
        service: `service.name`, unless the environment has one.
        run_id: stands on every span.
        environment: decides whether; OpenTelemetry itself reads the rest from the process'.

    Raises:
        ConfigError: an endpoint is named and nothing can be sent there.
    """
    global _sdk
    if _sdk is not None or not (endpoint := _endpoint(environment)):
        return
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"{_ENDPOINTS[1]} {endpoint!r}: write http://HOST:4317, or https://…")
    protocol = next((p for name in _PROTOCOLS if (p := environment.get(name))), "grpc")
    if protocol != "grpc":
        raise ConfigError(
            f"{_PROTOCOLS[1]}={protocol}: spans are sent by grpc only; leave it out, and name the "
            f"collector's gRPC port (4317)"
        )
    try:
        from rlsd.telemetry.tracing.sdk import Sdk
    except ImportError as cause:
        raise ConfigError(
            f"{_ENDPOINTS[1]} is set and OpenTelemetry is not installed ({cause}); "
            f"pip install 'rlsd[tracing]', or unset it"
        ) from cause
    _sdk = Sdk(service, run_id=run_id)


def _endpoint(environment: Mapping[str, str]) -> str:
    """Where spans go; empty when they go nowhere."""
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if is_disabled or environment.get("OTEL_TRACES_EXPORTER", "").strip() == "none":
        return ""
    return next((url for name in _ENDPOINTS if (url := environment.get(name, "").strip())), "")


def stop_tracing(*, within_s: float = _FLUSH_S) -> None:
    """Send what is left, as far as that can be done in time."""
    global _sdk
    stopped, _sdk = _sdk, None
    if stopped is not None:
        stopped.stop(within_s)


def is_on() -> bool:
    """Whether spans are made at all."""
    return _sdk is not None


def root_traceparent(ids: Ids) -> str:
    """The root span that a trace will have, and whether it is sampled; empty while off."""
    if _sdk is None:
        return ""
    return traceparent_of(ids, sampled=_sdk.is_sampled(ids.trace_id))


@contextlib.contextmanager
def span(
    name: str,
    *,
    parent: str = "",
    kind: Kind = Kind.INTERNAL,
    attributes: Attributes | None = None,
) -> Iterator[None]:
    """Be the current span of this task; what raises leaves its type on it, and nothing else.

    Args:
        parent: traceparent; without one, the current span, and without that there is no span.
    """
    if _sdk is None:
        yield
        return
    with _sdk.span(name, parent, kind, attributes or {}):
        yield


@contextlib.contextmanager
def within(parent: str) -> Iterator[None]:
    """Be under a span of another process, without one of one's own."""
    if _sdk is None or not parent:
        yield
        return
    with _sdk.within(parent):
        yield


def record(
    name: str,
    *,
    parent: str,
    start_ns: int,
    end_ns: int | None = None,
    attributes: Attributes | None = None,
    links: Sequence[str] = (),
) -> None:
    """A span that is over; Unix times, and one that begins after its end has no length."""
    if _sdk is not None and parent:
        end_ns = end_ns or time.time_ns()
        _sdk.record(name, parent, (min(start_ns, end_ns), end_ns), attributes or {}, links)


def record_root(
    name: str,
    root: str,
    *,
    start_ns: int,
    attributes: Attributes,
    failed: bool = False,
) -> None:
    """The root span of a trace, once all of it is known.

    Args:
        root: what `root_traceparent` said when the trace began, which decides whether it is made.
    """
    if _sdk is not None and is_sampled(root):
        end_ns = time.time_ns()
        _sdk.record_root(name, root, (min(start_ns, end_ns), end_ns), attributes, failed=failed)


def annotate(attributes: Attributes) -> None:
    """Say more on the current span."""
    if _sdk is not None:
        _sdk.annotate(attributes)


def traceparent() -> str:
    """Of the current span; empty when there is none."""
    return "" if _sdk is None else _sdk.traceparent()


def headers() -> dict[str, str]:
    """What a call to another service carries: `traceparent`, when there is a current span."""
    return {"traceparent": found} if (found := traceparent()) else {}


def exemplar() -> dict[str, str] | None:
    """Of a measurement: the trace that it was made in, if that is kept."""
    return None if _sdk is None else _sdk.exemplar()
