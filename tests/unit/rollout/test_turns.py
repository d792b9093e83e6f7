"""Trajectories of several turns, with an engine that says what it is told to."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from talking import (
    TableTool,
    asking,
    draw,
    function,
    group_of,
    make_chat,
    make_conversation,
    make_toolbox,
    qwen_like,
    replaying,
    spans,
)

from rlsd.errors import ToolError
from rlsd.inference.engine import Sample
from rlsd.trajectory import CallOutcome, FinishReason, VersionSpan
from services.rollout.engines.hosted import HostedEngine
from services.rollout.engines.updates import Continue
from services.rollout.seeds import trajectory_seed, turn_seed
from services.rollout.service import RolloutService
from services.rollout.tools.tool import Answer
from services.rollout.turns import Conversation


async def test_a_trajectory_holds_its_turns_and_between_them_the_answers():
    tokenizer = qwen_like()
    conversation, engine = make_conversation(replaying(asking("ab"), "so # 7"), tokenizer=tokenizer)
    [made], prompt_ids = await draw(conversation, group_of())
    [turn] = made.tool_turns
    assert (made.text, made.finish_reason, made.num_turns) == ("so # 7", FinishReason.STOP, 2)
    assert [(c.tool, c.arguments, c.answer, c.outcome) for c in turn.calls] == [
        ("lookup", '{"key": "ab"}', "ab is 7", CallOutcome.ANSWERED)
    ]
    between = tokenizer.decode(made.token_ids[turn.start : turn.end])
    assert between == (
        "\n<|im_start|>user\n<tool_response>\nab is 7\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    second = engine.requests[1]
    assert list(second.prompt_ids) == [*prompt_ids, *made.token_ids[: turn.end].tolist()]


async def test_the_whole_is_what_the_template_makes_of_the_whole_chat():
    tokenizer = qwen_like()
    twice = asking("ab") + "\n" + asking("cd")
    turns = ["let me see " + asking("x"), twice, "# 7"]
    conversation, _ = make_conversation(replaying(*turns), tokenizer=tokenizer)
    [made], prompt_ids = await draw(conversation, group_of(max_tokens=2000))
    messages = [
        {"role": "user", "content": "What is ab?"},
        {"role": "assistant", "content": turns[0]},
        {"role": "tool", "content": "x is 7"},
        {"role": "assistant", "content": turns[1]},
        {"role": "tool", "content": "ab is 7"},
        {"role": "tool", "content": "cd is 7"},
        {"role": "assistant", "content": turns[2]},
    ]
    whole = tokenizer.apply_chat_template(messages, tools=[function()], tokenize=False)
    assert [*prompt_ids, *made.token_ids.tolist()] == tokenizer.encode(whole.removesuffix("\n"))


async def test_log_probs_are_the_samplers_and_0_at_tokens_of_tools():
    conversation, _ = make_conversation(replaying(asking(), "# 7"))
    [made], _ = await draw(conversation, group_of())
    [turn] = made.tool_turns
    first, last = turn.start, made.num_tokens - turn.end
    expected = [*range(1, first + 1), *([0] * (turn.end - turn.start)), *range(1, last + 1)]
    assert (-made.rollout_logprobs).tolist() == expected
    assert made.num_sampled == first + last == made.sampled.sum()
    assert not made.sampled[turn.start : turn.end].any()


async def test_every_turn_has_a_seed_of_its_own_and_the_first_one_that_of_the_trajectory():
    conversation, engine = make_conversation(replaying(asking(), asking(), "# 7"))
    group = group_of()
    await draw(conversation, group)
    seed = trajectory_seed(group, 0)
    assert [r.seeds for r in engine.requests] == [(turn_seed(seed, k),) for k in range(3)]
    assert engine.requests[0].seeds == (seed,)
    assert len({r.seeds for r in engine.requests}) == 3


async def test_max_tokens_bounds_turns_and_answers_together():
    conversation, engine = make_conversation(replaying(asking(), asking(), "word " * 400))
    [made], _ = await draw(conversation, group_of(max_tokens=300))
    assert (made.num_tokens, made.finish_reason) == (300, FinishReason.LENGTH)
    assert engine.requests[-1].max_tokens == 300 - made.tool_turns[-1].end


@pytest.mark.parametrize("room", [-1, 0, 1])
async def test_answers_that_leave_no_room_for_a_token_end_the_trajectory(room):
    generous, _ = make_conversation(replaying(asking(), "# 7"))
    [whole], _ = await draw(generous, group_of())
    [turn] = whole.tool_turns
    conversation, _ = make_conversation(replaying(asking(), "# 7"))
    [made], _ = await draw(conversation, group_of(max_tokens=turn.end + room))
    assert made.finish_reason is FinishReason.LENGTH
    if room == 1:
        assert made.num_tokens == turn.end + 1
        return
    assert made.num_tokens == made.num_sampled == turn.start  # it ends with what the policy drew
    assert [c.answer for c in made.calls] == ["ab is 7"]  # that it was asked stays on record


async def test_a_policy_that_calls_for_ever_is_stopped_after_its_last_turn():
    tool = TableTool()
    conversation, engine = make_conversation(replaying(asking()), tool, max_turns=3)
    [made], _ = await draw(conversation, group_of(max_tokens=2000))
    assert (made.finish_reason, made.num_turns) == (FinishReason.TURNS, 3)
    assert (len(engine.requests), len(tool.questions)) == (3, 2)
    assert made.num_tokens > made.tool_turns[-1].end  # the last turn is in it, unanswered


async def test_a_cut_turn_calls_nothing():
    tool = TableTool()
    conversation, _ = make_conversation(replaying(asking() + " and more " * 50), tool)
    [made], _ = await draw(conversation, group_of(max_tokens=120))
    assert (made.finish_reason, made.tool_turns, tool.questions) == (FinishReason.LENGTH, (), [])


async def test_a_turn_that_another_token_ended_is_the_last():
    """An engine may stop at tokens that the template does not end a turn with."""
    tokenizer, tool = qwen_like(), TableTool()

    def script(request, seed):
        completion = engine.saying(asking(), request)
        completion.token_ids[-1] = tokenizer.pad_token_id
        return completion

    conversation, engine = make_conversation(script, tool, tokenizer=tokenizer)
    [made], _ = await draw(conversation, group_of())
    assert (made.finish_reason, made.tool_turns, tool.questions) == (FinishReason.STOP, (), [])


async def test_versions_and_spans_cover_all_turns():
    def script(request, seed):
        version = len(engine.requests) + 2
        completion = engine.saying(asking() if version == 3 else "# 7", request, version=version)
        if version == 3:
            return completion
        parts = (
            VersionSpan(version=4, start=0, end=1),
            VersionSpan(version=5, start=1, end=len(completion.token_ids)),
        )
        return replace(completion, max_policy_version=5, spans=parts)

    conversation, engine = make_conversation(script)
    [made], _ = await draw(conversation, group_of())
    [turn] = made.tool_turns
    assert (made.min_policy_version, made.max_policy_version) == (3, 5)
    assert spans(made) == [
        (3, 0, turn.start),
        (4, turn.end, turn.end + 1),
        (5, turn.end + 1, made.num_tokens),
    ]
    drawn = np.zeros(made.num_tokens, dtype=bool)
    for span in made.spans:
        drawn[span.start : span.end] = True
    assert (drawn == made.sampled).all()


async def test_one_version_needs_no_spans():
    conversation, _ = make_conversation(replaying(asking(), "# 7"))
    [made], _ = await draw(conversation, group_of())
    assert made.spans == ()


async def test_no_member_waits_for_a_siblings_tool():
    released, order = asyncio.Event(), []

    class Slow:
        async def answer(self, question):
            if question.caller.member == 0:
                await released.wait()
            return Answer(text="7")

    def script(request, seed):
        if "tool_response" in engine.tokenizer.decode(request.prompt_ids):
            order.append(seed)
            if len(order) == 2:
                released.set()
            return "# 7"
        return asking()

    conversation, engine = make_conversation(script, Slow())
    group = group_of(3)
    made, _ = await asyncio.wait_for(draw(conversation, group), 5)
    firsts = [turn_seed(trajectory_seed(group, m), 1) for m in range(3)]
    assert [t.member for t in made] == [0, 1, 2]
    assert order[-1] == firsts[0]


async def test_a_tool_that_cannot_be_asked_fails_the_group_and_ends_its_siblings():
    cancelled = []

    class Broken:
        async def answer(self, question):
            if question.caller.member == 1:
                raise ToolError("tool 'lookup': no answer")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(question.caller.member)
                raise

    conversation, _ = make_conversation(replaying(asking()), Broken())
    with pytest.raises(ToolError, match="no answer"):
        await asyncio.wait_for(draw(conversation, group_of(3)), 5)
    assert sorted(cancelled) == [0, 2]


async def test_the_same_caller_is_known_over_turns_and_redeliveries_and_another_is_not():
    async def ids(group):
        tool = TableTool()
        conversation, _ = make_conversation(replaying(asking("a"), asking("b"), "# 7"), tool)
        await draw(conversation, group)
        return [q.caller.trajectory_id for q in tool.questions], [q.key for q in tool.questions]

    group = group_of()
    trajectories, keys = await ids(group)
    assert len(set(trajectories)) == 1
    assert len(set(keys)) == 2
    assert await ids(group) == (trajectories, keys)
    later = replace(group, required_policy_version=9)
    greedy = replace(group, sampling=replace(group.sampling, temperature=0.0))
    for other in (later, greedy, replace(group, run_id="other")):
        assert (await ids(other))[0] != trajectories


async def test_a_service_without_tools_asks_the_engine_once_for_a_group():
    tokenizer = qwen_like()
    _, engine = make_conversation(replaying(asking()), tokenizer=tokenizer)
    engine.tokenize = lambda _: [5, 6]
    service = RolloutService(engine, engine_name="scripted", run_id="run")
    made = await service.generate(group_of(3))
    [request] = engine.requests
    assert request.seeds == tuple(trajectory_seed(group_of(3), m) for m in range(3))
    assert all(t.tool_turns == () for t in made.trajectories)


async def test_a_service_with_tools_fills_the_group_in():
    conversation, engine = make_conversation(replaying(asking(), "# 7"))
    service = RolloutService(engine, engine_name="s", run_id="r", conversation=conversation)
    made = await service.generate(group_of(1))
    assert made.trajectories[0].num_turns == 2
    assert "lookup" in engine.tokenizer.decode(made.prompt_token_ids)


SECRET = st.text("0123456789", min_size=12, max_size=20)


@settings(max_examples=20, deadline=None, phases=[Phase.generate])
@given(reference=SECRET, privileged=SECRET, hidden=SECRET)
def test_nothing_of_the_record_but_its_id_ever_reaches_a_tool(reference, privileged, hidden):
    tool = TableTool()
    conversation, engine = make_conversation(replaying(asking(), asking("cd"), "# 7"), tool)
    group = group_of(2)
    prompt = group.prompt
    secret = replace(
        prompt,
        reference=reference,
        privileged=privileged,
        verifier=replace(prompt.verifier, params={"tests": hidden}),
    )
    asyncio.run(draw(conversation, replace(group, prompt=secret)))
    assert tool.questions
    left = repr([q.content for q in tool.questions]) + repr(tool.questions)
    for text in (reference, privileged, hidden):
        assert text not in left
        for request in engine.requests:
            assert text not in engine.tokenizer.decode(request.prompt_ids)


async def test_an_engine_of_others_draws_turn_by_turn_like_our_own():
    """What HostedEngine makes of two samples, the second under two versions."""
    tokenizer = qwen_like()

    class Engine:
        num_drawn = 0

        async def sample(self, request):
            self.num_drawn += 1
            said = asking() if self.num_drawn == 1 else "# 7"
            drawn = [*tokenizer.encode(said), tokenizer.eos_token_id]
            end = len(drawn)
            spans = [(3, 0, end)] if self.num_drawn == 1 else [(3, 0, 1), (4, 1, end)]
            return Sample(
                token_ids=np.asarray(drawn, dtype=np.int32),
                logprobs=-np.ones(end, dtype=np.float32),
                finish_reason=FinishReason.STOP,
                spans=tuple(VersionSpan(version=v, start=a, end=b) for v, a, b in spans),
            )

    class Weights:
        version = 3

        async def prove(self, versions): ...

    hosted = HostedEngine(Engine(), Weights(), tokenizer, updates=Continue())
    chat, toolbox = make_chat(tokenizer), make_toolbox(TableTool())
    conversation = Conversation(hosted, chat, toolbox, max_turns=3)
    [made], _ = await draw(conversation, group_of())
    [turn] = made.tool_turns
    assert (made.text, made.min_policy_version, made.max_policy_version) == ("# 7", 3, 4)
    assert spans(made) == [
        (3, 0, turn.start),
        (3, turn.end, turn.end + 1),
        (4, turn.end + 1, made.num_tokens),
    ]
