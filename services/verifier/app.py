"""The HTTP face: batches of checks for whoever does not speak gRPC."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, ConfigDict, Field

from rlsd.serving.body_limit import BodyLimit
from rlsd.serving.http import Answer, Probes
from rlsd.trajectory import Verdict, VerifierSpec
from services.verifier.core import Verifier

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_ITEMS = 1024

_EXAMPLES: Any = {
    "maths": {
        "summary": "One right and one wrong answer",
        "value": {
            "items": [
                {"kind": "math", "completion": r"So \boxed{\frac{2}{4}}.", "reference": "1/2"},
                {"kind": "math", "completion": "The answer is 3.", "reference": "1/2"},
            ]
        },
    },
    "exact": {
        "summary": "The text after a marker",
        "value": {
            "items": [
                {
                    "kind": "exact",
                    "params": {"after": "#"},
                    "completion": "7 ; 4 ; 2 # 9",
                    "reference": "9",
                }
            ]
        },
    },
}


class HttpModel(BaseModel):
    """Frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Item(HttpModel):
    """One completion to check."""

    kind: str
    """Which check."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the kind."""
    completion: str
    """What the model wrote."""
    reference: str
    """The answer that it is checked against."""


class VerifyBody(HttpModel):
    """A batch of checks."""

    items: list[Item] = Field(min_length=1, max_length=MAX_ITEMS)
    """Verdicts come back in the same order."""


class HttpVerdict(HttpModel):
    """The answer about one completion."""

    outcome: Literal["scored", "error", "timeout"]
    """Only `scored` carries a reward."""
    reward: float | None
    """0 to 1; null unless scored."""
    reason: str
    """Short words for people."""
    duration_s: float
    """Seconds the check took."""
    isolation: str
    """Tier and policy of the sandbox; empty when the check needs none."""


class VerifyAnswer(HttpModel):
    """The verdicts of a batch."""

    verdicts: list[HttpVerdict]
    """One for each item, in order."""


def create_app(
    verifier: Verifier, *, max_body_bytes: int = MAX_BODY_BYTES, probes: Probes | None = None
) -> FastAPI:
    """The ASGI application over a verifier that somebody else opens and closes."""
    app = FastAPI(title="rlsd verifier", summary="Verdicts about completions.")
    app.add_middleware(BodyLimit, max_body_bytes=max_body_bytes)
    app.add_exception_handler(RequestValidationError, _wrong_body)

    @app.post(
        "/v1/verify",
        responses={413: {"description": f"More than {max_body_bytes} bytes."}},
    )
    async def verify(
        body: Annotated[VerifyBody, Body(openapi_examples=_EXAMPLES)],
    ) -> VerifyAnswer:
        """Check up to 1024 completions; a failed check is an `error` verdict, never reward 0."""
        async with asyncio.TaskGroup() as tasks:
            pending = [tasks.create_task(_check(verifier, item)) for item in body.items]
        return VerifyAnswer(verdicts=[_http_verdict(task.result()) for task in pending])

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the service answers."""
        return {"status": "ok"}

    _add_probes(app, probes or Probes())
    return app


def _add_probes(app: FastAPI, probes: Probes) -> None:
    """The routes that the other services have on their metrics port."""

    @app.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Prometheus metrics, as text or as OpenMetrics."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(REGISTRY), headers={"Content-Type": content_type})

    @app.get("/livez", response_class=PlainTextResponse)
    async def livez() -> Response:
        """200 while the service moves, else 503."""
        return _plain(probes.live())

    @app.get("/readyz", response_class=PlainTextResponse)
    async def readyz() -> Response:
        """200 while it serves, else 503."""
        return _plain(probes.ready())


def _plain(answer: Answer) -> Response:
    return PlainTextResponse(f"{answer.words}\n", status_code=answer.status)


async def _check(verifier: Verifier, item: Item) -> Verdict:
    spec = VerifierSpec(kind=item.kind, params=item.params)
    return await verifier.check(spec, item.completion, item.reference)


def _http_verdict(verdict: Verdict) -> HttpVerdict:
    return HttpVerdict(
        outcome=verdict.outcome.value,
        reward=verdict.reward if verdict.is_scored else None,
        reason=verdict.reason,
        duration_s=verdict.duration_s,
        isolation=verdict.isolation,
    )


async def _wrong_body(_: Request, error: Exception) -> JSONResponse:
    """What is wrong and where, without sending back the completions."""
    assert isinstance(error, RequestValidationError)
    found = [
        {"where": ".".join(str(part) for part in e["loc"][:6])[:200], "what": e["msg"][:200]}
        for e in error.errors()[:20]
    ]
    return JSONResponse({"detail": found}, status_code=422)
