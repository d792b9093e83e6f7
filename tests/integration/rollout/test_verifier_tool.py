"""A check of the real verifier service as a tool."""

import contextlib

import grpc
import pytest
from talking import asking, draw, group_of, make_conversation, replaying

from rlsd.config import ToolsSection, VerifierSection, VerifierToolSection
from rlsd.errors import ToolError
from rlsd.trajectory import CallOutcome
from rlsd.wire.v1 import verifier_service_pb2_grpc as rpc
from services.rollout.tools.choice import open_toolbox
from services.verifier.core import open_verifier
from services.verifier.service import VerifierService


class Recording(VerifierService):
    requests: list

    async def Check(self, request, context):
        self.requests.append(request)
        return await super().Check(request, context)


@contextlib.asynccontextmanager
async def served(**changes):
    """A conversation whose tool is a check of a served verifier; and what that was asked."""
    settings = {
        "kind": "verifier",
        "description": "validates",
        "verifier": "regex",
        "params": {"pattern": "[0-9]+"},
        "argument": "key",
        "total_timeout_s": 5.0,
    }
    tools = ToolsSection(use={"lookup": VerifierToolSection(**(settings | changes))})
    section = VerifierSection(kinds=("regex", "exact"), timeout_s=2.0)
    async with open_verifier(section) as verifier:
        service = Recording(verifier)
        service.requests = []
        server = grpc.aio.server()
        rpc.add_VerifierServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with open_toolbox(tools, verifier=f"127.0.0.1:{port}") as toolbox:
                conversation, _ = make_conversation(replaying(asking("12"), "# 7"), toolbox=toolbox)
                yield conversation, service.requests
        finally:
            await server.stop(None)


async def test_the_verdict_comes_back_in_words():
    async with served() as (conversation, _):
        [made], _ids = await draw(conversation, group_of())
    [call] = made.calls
    assert call.outcome is CallOutcome.ANSWERED
    assert call.answer.startswith("passed")


async def test_the_check_sees_the_argument_and_nothing_of_the_record():
    async with served() as (conversation, requests):
        await draw(conversation, group_of())
    [request] = requests
    assert (request.completion, request.reference) == ("12", "")
    assert (request.verifier.kind, request.verifier.params_json) == (
        "regex",
        '{"pattern": "[0-9]+"}',
    )


@pytest.mark.parametrize("changes", [{"verifier": "sorcery"}, {"params": {"patern": "x"}}])
async def test_a_check_without_a_verdict_is_an_error_and_no_answer(changes):
    async with served(**changes) as (conversation, _):
        with pytest.raises(ToolError, match=r"mend tools\.use\.lookup\.params"):
            await draw(conversation, group_of())


async def test_a_verifier_that_is_not_there_is_an_error_after_the_deadline():
    tools = ToolsSection(
        use={
            "lookup": VerifierToolSection(
                kind="verifier",
                description="",
                verifier="regex",
                argument="key",
                total_timeout_s=0.3,
            )
        }
    )
    async with open_toolbox(tools, verifier="127.0.0.1:9") as toolbox:
        conversation, _ = make_conversation(replaying(asking("12"), "# 7"), toolbox=toolbox)
        with pytest.raises(ToolError, match="the verifier: DEADLINE_EXCEEDED"):
            await draw(conversation, group_of())
