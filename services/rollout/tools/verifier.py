"""A check of the verifier service as a tool: the policy hands it a text and reads the verdict.

The check's parameters are the configuration's and there is no reference: what a record holds for
its own verdict does not come here.
"""

from __future__ import annotations

import grpc

from rlsd.config import VerifierToolSection
from rlsd.errors import ServiceError, ToolError
from rlsd.trajectory import Verdict, VerifierSpec
from rlsd.wire.convert import spec_to_proto, verdict_from_proto
from rlsd.wire.v1 import verifier_service_pb2 as pb
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc
from services.rollout.tools.calls import plain
from services.rollout.tools.tool import Answer, Question


class VerifierTool:
    """Asks over gRPC, which waits for a service that is not up yet and tries again."""

    def __init__(
        self, name: str, section: VerifierToolSection, stub: rpc.VerifierServiceAsyncStub
    ) -> None:
        self._name = name
        self._section = section
        self._stub = stub
        self._spec = spec_to_proto(VerifierSpec(kind=section.verifier, params=section.params))

    async def answer(self, question: Question) -> Answer:
        """The verdict in words; raises ToolError where there is none."""
        text = question.arguments[self._section.argument]
        request = pb.CheckRequest(verifier=self._spec, completion=plain(text))
        try:
            response = await self._stub.Check(
                request, timeout=self._section.total_timeout_s, wait_for_ready=True
            )
            verdict = verdict_from_proto(response.verdict)
        except grpc.aio.AioRpcError as cause:
            raise ToolError(
                f"tool {self._name!r}: the verifier: {cause.code().name}: {cause.details()}"
            ) from cause
        except ServiceError as cause:
            raise ToolError(f"tool {self._name!r}: {cause}") from cause
        if not verdict.is_scored:
            raise ToolError(
                f"tool {self._name!r}: the check {self._section.verifier!r} has no verdict "
                f"({verdict.outcome}: {verdict.reason}); mend tools.use.{self._name}.params"
            )
        return Answer(text=words_of(verdict))


def words_of(verdict: Verdict) -> str:
    """`passed`, `failed` or the score, and why."""
    known = {1.0: "passed", 0.0: "failed"}
    said = known.get(verdict.reward, f"score {verdict.reward:.3g}")
    return f"{said}: {verdict.reason}" if verdict.reason else said
