"""The HTTP service around a check.

POST /v1/verify    the native contract            GET /healthz    whether it answers
GET  /metrics      for Prometheus                 GET /docs, /openapi.json
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from pydantic import Field

from rlsd.errors import ConfigError
from rlsd.serving.body_limit import BodyLimit
from rlsd.serving.http import split_address
from rlsd.telemetry.tracing import Kind, span, start_tracing, stop_tracing
from rlsd.verifier_contract.native import Answer, VerifyRequest
from rlsd.verifier_sdk.access import Access, Refused
from rlsd.verifier_sdk.idempotency import Answers, KeyReused
from rlsd.verifier_sdk.judging import Check, Judging

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 2 * 1024 * 1024
_LONGEST_TRACEPARENT = 55
"""Of version 00."""


def create_app(  # noqa: PLR0913  each argument is an option of the service
    check: Check,
    *,
    name: str,
    version: str = "",
    bearer_file: Path | None = None,
    hmac_files: Sequence[Path] = (),
    max_concurrency: int = 64,
    remembered: int = 10_000,
    has_client_certificates: bool = False,
) -> FastAPI:
    """The ASGI application of a check.

    Args:
        check: a submission in, a number or a `Score` out; plain or async. Whatever it raises is
            answered as an error.
        bearer_file: holds the token that requests must show.
        hmac_files: hold the keys of which one must have signed a request.
        max_concurrency: calls of `check` at once; a plain function has a thread for each.
        remembered: answers kept by their Idempotency-Key.
        has_client_certificates: whoever reaches it has shown one.

    Raises:
        ConfigError: a secret cannot be used.
    """
    access = Access(bearer=bearer_file, hmac_keys=hmac_files)
    if access.is_open and not has_client_certificates:
        log.warning(
            "everybody may ask this verifier",
            extra={"remedy": "set bearer_file, hmac_files or client_ca"},
        )
    judging = Judging(check, name=name, version=version, max_concurrency=max_concurrency)
    answers = Answers(size=remembered)
    telemetry = _Telemetry()
    app = FastAPI(title=name, version=version or "0", summary="A verifier of completions.")
    app.add_middleware(BodyLimit, max_body_bytes=MAX_BODY_BYTES)
    app.add_exception_handler(RequestValidationError, _wrong_body)

    async def allowed(request: Request) -> None:
        try:
            access.check(request.headers, await request.body())
        except Refused as refusal:
            raise HTTPException(401, str(refusal)) from refusal

    @app.post(
        "/v1/verify",
        dependencies=[Depends(allowed)],
        responses={401: {"description": "No right to ask."}, 409: {"description": "Key reused."}},
    )
    async def verify(
        request: Request,
        submission: VerifyRequest,
        idempotency_key: Annotated[str | None, Header(max_length=256)] = None,
    ) -> Annotated[Answer, Field(discriminator="outcome")]:
        """Score one completion; an `error` outcome is no score."""
        started = time.monotonic()
        try:
            with _asked_within(request.headers.get("traceparent", "")):
                if idempotency_key is None:
                    answer = await judging.judge(submission)
                else:
                    answer = await answers.get(idempotency_key, submission, judging.judge)
        except KeyReused as cause:
            raise HTTPException(409, "this Idempotency-Key came with another request") from cause
        telemetry.observe(answer, time.monotonic() - started)
        return answer

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the service answers."""
        return {"status": "ok", "name": name, "version": version}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(telemetry.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def serve(
    check: Check,
    *,
    name: str,
    bind: str = "127.0.0.1:8900",
    tls: tuple[Path, Path] | None = None,
    client_ca: Path | None = None,
    **options: Any,
) -> None:
    """Serve a check until SIGTERM; with `OTEL_EXPORTER_OTLP_ENDPOINT` also its spans are sent.

    Args:
        tls: certificate and key.
        client_ca: clients must show a certificate that goes back to these (mTLS).
        options: of `create_app`.
    """
    import uvicorn

    host, port = split_address(bind, "bind")
    if client_ca is not None and tls is None:
        raise ConfigError("client_ca: only with tls; give certificate and key")
    encryption = _encryption(tls, client_ca) if tls is not None else {}
    app = create_app(check, name=name, has_client_certificates=client_ca is not None, **options)
    start_tracing(name)
    try:
        uvicorn.run(app, host=host, port=port, access_log=False, **encryption)
    finally:
        stop_tracing()


def _encryption(tls: tuple[Path, Path], client_ca: Path | None) -> dict[str, Any]:
    """What uvicorn needs; raises ConfigError when a file cannot be used."""
    certificate, key = tls
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
        context.load_cert_chain(certificate, key)
    except OSError as cause:  # ssl.SSLError is one
        files = ", ".join(str(file) for file in (certificate, key, client_ca) if file is not None)
        raise ConfigError(f"tls {files}: {cause}; give PEM files") from cause
    found: dict[str, Any] = {"ssl_certfile": certificate, "ssl_keyfile": key}
    if client_ca is not None:
        found |= {"ssl_ca_certs": client_ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return found


def _asked_within(traceparent: str) -> contextlib.AbstractContextManager[None]:
    """A span below the caller's; none where nothing is traced."""
    if not traceparent:
        return contextlib.nullcontext()
    return span("verifier.judge", parent=traceparent[:_LONGEST_TRACEPARENT], kind=Kind.SERVER)


class _Telemetry:
    """Metrics in a registry of the application's own: a process may hold several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "rlsd_sdk_answers", "Answers by outcome.", ["outcome"], registry=self.registry
        )
        self._duration = Histogram(
            "rlsd_sdk_answer_duration_seconds",
            "One answer, the wait for a free place included.",
            registry=self.registry,
        )

    def observe(self, answer: Answer, duration_s: float) -> None:
        """Count one answer."""
        self._answers.labels(answer.outcome).inc()
        self._duration.observe(duration_s)


async def _wrong_body(_: Request, error: Exception) -> JSONResponse:
    """What is wrong and where, without sending back the completion."""
    assert isinstance(error, RequestValidationError)
    found = [
        {"where": ".".join(str(part)[:40] for part in e["loc"][:6]), "what": e["msg"][:200]}
        for e in error.errors()[:20]
    ]
    return JSONResponse({"detail": found}, status_code=422)
