"""A tool behind HTTP: what it says is an answer, a refusal, tried again, or an error at once."""

import asyncio
import json
import time
from dataclasses import replace

import pytest
from hostile_http import hanging_up, hostile_server, in_turn, saying, silent
from prometheus_client import REGISTRY
from talking import KEY_SCHEMA, asking, draw, group_of, make_conversation, replaying

from rlsd.config import HttpToolSection, ToolsSection
from rlsd.errors import ConfigError, ToolError
from rlsd.telemetry.activity import Activity, State
from services.rollout.tools import toolbox as toolbox_module
from services.rollout.tools.calls import Call
from services.rollout.tools.choice import open_toolbox
from services.rollout.tools.http import HttpTool
from services.rollout.tools.tool import Caller, Question

LOOPBACK = ("127.0.0.0/8",)
CALLER = Caller(
    run_id="r", prompt_id="p", group_id="g", trajectory_id="t", member=3, turn=1, call=0
)
QUESTION = Question(tool="lookup", arguments={"key": "ab"}, caller=CALLER)


def section(url: str, **changes) -> HttpToolSection:
    settings = {
        "kind": "http",
        "url": url,
        "description": "finds",
        "parameters": KEY_SCHEMA,
        "allow_cidrs": LOOPBACK,
        "try_timeout_s": 0.3,
        "total_timeout_s": 2.0,
    }
    return HttpToolSection(**(settings | changes))


async def ask(url: str, **changes):
    return await HttpTool("lookup", section(url, **changes)).answer(QUESTION)


async def error_of(respond, **changes) -> str:
    async with hostile_server(respond) as server:
        with pytest.raises(ToolError) as raised:
            await ask(server.url, **changes)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def counted(tool: str, outcome: str) -> float:
    labels = {"tool": tool, "outcome": outcome}
    return REGISTRY.get_sample_value("rlsd_rollout_tool_calls_total", labels) or 0.0


async def test_an_answer_is_what_the_policy_is_told():
    async with hostile_server(saying({"answer": "7 ü"})) as server:
        answer = await ask(server.url)
    assert (answer.text, answer.is_refusal) == ("7 ü", False)
    [received] = server.received
    assert received.json == {
        "tool": "lookup",
        "arguments": {"key": "ab"},
        "trajectory": {
            "run_id": "r",
            "prompt_id": "p",
            "group_id": "g",
            "trajectory_id": "t",
            "member": 3,
            "turn": 1,
            "call": 0,
        },
    }


@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_a_refusal_with_an_answer_is_told_to_the_policy(status):
    async with hostile_server(saying({"answer": "no such key"}, status=status)) as server:
        answer = await ask(server.url)
    assert (answer.text, answer.is_refusal) == ("no such key", True)
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_a_refusal_without_an_answer_may_be_the_operators_and_is_an_error(status):
    assert f"status {status} without" in await error_of(
        saying({"detail": "Not Found"}, status=status)
    )


@pytest.mark.parametrize("status", [201, 204, 301, 307, 401, 403, 405, 415])
async def test_any_other_status_is_an_error_at_once(status):
    respond = saying({"answer": "7"}, status=status, headers=("Location: http://127.0.0.1:1/",))
    assert f"status {status}" in await error_of(respond)


@pytest.mark.parametrize(
    "failing",
    [
        saying({"answer": "x"}, status=503),
        saying({"answer": "x"}, status=429),
        saying({"answer": "x"}, status=408),
        hanging_up,
        silent,
    ],
)
async def test_a_failure_is_tried_again_under_the_same_key(failing):
    async with hostile_server(in_turn(failing, saying({"answer": "7"}))) as server:
        answer = await ask(server.url)
    assert answer.text == "7"
    first, second = server.received
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == QUESTION.key
    assert first.body == second.body


async def test_another_call_has_another_key():
    keys = {
        QUESTION.key,
        replace(QUESTION, arguments={"key": "cd"}).key,
        replace(QUESTION, caller=replace(CALLER, turn=2)).key,
        replace(QUESTION, caller=replace(CALLER, call=1)).key,
        replace(QUESTION, caller=replace(CALLER, trajectory_id="u")).key,
    }
    assert len(keys) == 5


@pytest.mark.parametrize("failing", [silent, saying({}, status=500), hanging_up])
async def test_tries_end_with_the_total_timeout(failing):
    began_at = time.monotonic()
    assert "no answer within 0.8 s" in await error_of(failing, total_timeout_s=0.8)
    assert time.monotonic() - began_at < 1.5


async def test_a_server_that_asks_for_a_longer_pause_than_there_is_time_ends_the_call():
    began_at = time.monotonic()
    await error_of(saying({}, status=503, headers=("Retry-After: 60",)))
    assert time.monotonic() - began_at < 1


async def test_nobody_listening_is_an_error_after_the_total_timeout():
    with pytest.raises(ToolError, match="is it up"):
        await ask("http://127.0.0.1:9/", total_timeout_s=0.4)


@pytest.mark.parametrize(
    "body",
    [b"", b"7", b"[]", b'{"answer": 7}', b'{"answer": null}', b'{"answer": NaN}', b"\xff{}"],
)
async def test_what_is_no_answer_is_an_error_and_never_reaches_the_policy(body):
    said = await error_of(saying(body))
    assert "status 200 without" in said or "not JSON" in said


async def test_an_endless_answer_is_an_error():
    assert "more than 65536 bytes" in await error_of(saying({"answer": "x" * 100_000}))


async def test_an_address_that_is_not_allowed_is_not_connected_to():
    async with hostile_server(saying({"answer": "7"})) as server:
        with pytest.raises(ToolError, match="not a public address"):
            await ask(server.url, allow_cidrs=())
    assert server.num_connections == 0


async def test_the_bearers_token_is_shown_and_read_again(tmp_path):
    token = tmp_path / "token"
    token.write_text("first")
    async with hostile_server(saying({"answer": "7"})) as server:
        tool = HttpTool("lookup", section(server.url, bearer_file=token))
        await tool.answer(QUESTION)
        token.write_text("second!")
        await tool.answer(QUESTION)
        token.unlink()
        with pytest.raises(ToolError, match="cannot be read"):
            await tool.answer(QUESTION)
    shown = [r.headers["authorization"] for r in server.received]
    assert shown == ["Bearer first", "Bearer second!"]


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "ftp://x/"},
        {"bearer_file": "/nowhere"},
        {"ca_file": "/nowhere", "url": "https://x"},
        {"parameters": {"type": "strin"}},
    ],
)
async def test_what_cannot_be_used_is_said_at_the_start(changes):
    of_tool = section(**({"url": "http://127.0.0.1:9/"} | changes))
    with pytest.raises(ConfigError, match=r"tools\.use\.lookup"):
        async with open_toolbox(ToolsSection(use={"lookup": of_tool}), verifier="127.0.0.1:9"):
            pass


async def test_so_many_calls_at_once_and_no_more():
    now, most = 0, 0

    async def respond(received, writer):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        await saying({"answer": received.json["arguments"]["key"]})(received, writer)

    async with hostile_server(respond) as server:
        tools = ToolsSection(use={"lookup": section(server.url, max_concurrency=3)})
        async with open_toolbox(tools, verifier="127.0.0.1:9") as toolbox:
            calls = [Call(tool="lookup", arguments={"key": str(n)}) for n in range(12)]
            made = await asyncio.gather(*(toolbox.call(c, CALLER) for c in calls))
    assert [c.answer for c in made] == [str(n) for n in range(12)]
    assert most == 3


async def test_a_slow_tool_is_named_as_what_the_service_waits_for(monkeypatch):
    monkeypatch.setattr(toolbox_module, "WORTH_SAYING_S", 0.05)
    async with hostile_server(silent) as server:
        tools = ToolsSection(use={"lookup": section(server.url, try_timeout_s=30)})
        async with open_toolbox(tools, verifier="127.0.0.1:9") as toolbox:
            activity = Activity()
            activity.watch(toolbox.obstacle)
            with activity.working():
                call = Call(tool="lookup", arguments={"key": "ab"})
                waiting = asyncio.ensure_future(toolbox.call(call, CALLER))
                await asyncio.sleep(0.1)
                snapshot = activity.snapshot()
            waiting.cancel()
            await asyncio.wait([waiting])
            assert toolbox.obstacle() is None
    assert snapshot.state is State.WAITING_FOR_SERVICE
    assert "the tool 'lookup', 2 s at most for a call; 1 under way" in snapshot.words()


async def test_calls_are_counted_by_tool_and_outcome_and_never_by_what_the_policy_wrote():
    before = {o: counted("lookup", o) for o in ("answered", "error", "malformed")}
    unknown = counted("", "unknown")
    responds = in_turn(saying({"answer": "7"}), saying({}, status=403))
    async with hostile_server(responds) as server:
        tools = ToolsSection(use={"lookup": section(server.url)})
        async with open_toolbox(tools, verifier="127.0.0.1:9") as toolbox:
            good = Call(tool="lookup", arguments={"key": "ab"})
            await toolbox.call(good, CALLER)
            await toolbox.call(replace(good, arguments={}), CALLER)
            await toolbox.call(replace(good, tool="sorcery"), CALLER)
            with pytest.raises(ToolError):
                await toolbox.call(good, CALLER)
    after = {o: counted("lookup", o) for o in before}
    assert after == {o: n + 1 for o, n in before.items()}
    assert counted("", "unknown") == unknown + 1
    assert counted("sorcery", "unknown") == 0


async def test_the_reference_is_in_no_byte_that_leaves():
    secret = "4815162342"
    async with hostile_server(saying({"answer": "7"})) as server:
        tools = ToolsSection(use={"lookup": section(server.url)})
        async with open_toolbox(tools, verifier="127.0.0.1:9") as toolbox:
            conversation, _ = make_conversation(replaying(asking(), "# 7"), toolbox=toolbox)
            group = group_of(2)
            prompt = replace(group.prompt, reference=secret, privileged=secret)
            await draw(conversation, replace(group, prompt=prompt))
    assert server.received
    for received in server.received:
        assert secret not in json.dumps(received.headers) + received.body.decode()
