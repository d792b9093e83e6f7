"""What every call of a server and of a client passes through: error statuses, traces.

The interceptors of OpenTelemetry's own package write the text of errors into spans, and an error
may quote what a model or a user wrote.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from rlsd.errors import RlsdError
from rlsd.streams.spans import NAMES
from rlsd.streams.stage import Stage
from rlsd.telemetry import tracing
from rlsd.telemetry.tracing import Attribute, Attributes, Kind

log = logging.getLogger(__name__)

_STAGES = {
    "rlsd.wire.v1.RolloutService/Generate": Stage.ROLLOUT,
    "rlsd.wire.v1.VerifierService/Verify": Stage.VERIFY,
    "rlsd.wire.v1.TeacherService/Score": Stage.TEACH,
}


class ErrorStatus(grpc.aio.ServerInterceptor):
    """Maps `RlsdError` to its status. Anything else is a fault of ours: logged whole, INTERNAL."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap unary handlers; streams (reflection, health watch) pass as they are."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        inner, method = handler.unary_unary, handler_call_details.method

        async def call(request: Any, context: Any) -> Any:
            try:
                return await inner(request, context)
            except RlsdError as error:
                log.warning("call failed", extra={"call": method, "reason": str(error)})
                await context.abort(error.status, str(error))
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                log.exception("call crashed", extra={"call": method})
                await context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


class ServerSpans(grpc.aio.ServerInterceptor):
    """A span for each call that comes with a `traceparent`; others are asked for too often."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap unary handlers."""
        handler = await continuation(handler_call_details)
        parent = _traceparent(handler_call_details)
        if handler is None or handler.unary_unary is None or not parent:
            return handler
        inner, method = handler.unary_unary, handler_call_details.method.lstrip("/")
        stage = _STAGES.get(method)
        name = method if stage is None else NAMES[stage]
        attributes = _rpc(method)
        if stage is not None:
            attributes = {**attributes, Attribute.STAGE: stage.value}

        async def call(request: Any, context: Any) -> Any:
            with tracing.span(name, parent=parent, kind=Kind.SERVER, attributes=attributes):
                return await inner(request, context)

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


class ClientSpans(grpc.aio.UnaryUnaryClientInterceptor):
    """A span for each call made within one, which the server hears of by `traceparent`."""

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """The same call with one more word of metadata; over when its answer is there."""
        if not tracing.traceparent():
            return await continuation(client_call_details, request)
        method = _text(client_call_details.method).lstrip("/")
        with tracing.span(method, kind=Kind.CLIENT, attributes=_rpc(method)):
            made = await continuation(
                with_metadata(client_call_details, **tracing.headers()), request
            )
            await made  # raises what the call fails with
            return made


def with_metadata(details: grpc.aio.ClientCallDetails, **words: str) -> grpc.aio.ClientCallDetails:
    """The same call with further words of metadata."""
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    for key, word in words.items():
        metadata.add(key, word)
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


def _traceparent(details: grpc.HandlerCallDetails) -> str:
    found = dict(details.invocation_metadata or ()).get("traceparent", "")
    return _text(found)


def _rpc(method: str) -> Attributes:
    return {Attribute.RPC_SYSTEM: "grpc", Attribute.RPC_METHOD: method}


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
