"""One server interceptor: an error of ours becomes its gRPC status with its one-line message."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from rlsd.errors import RlsdError

log = logging.getLogger(__name__)


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
