"""What of a turn is a call, and what is said about the rest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talking import TableTool, asking, make_toolbox

from rlsd.errors import ConfigError
from rlsd.trajectory import CallOutcome, ToolCall
from services.rollout.tools.calls import Call, written_calls
from services.rollout.tools.tool import Answer, Caller

CALLER = Caller(
    run_id="r", prompt_id="p", group_id="g", trajectory_id="t", member=0, turn=0, call=0
)


def only(text: str) -> Call | ToolCall:
    [call] = written_calls(text)
    return call


async def answered(text: str, tool=None) -> ToolCall:
    return await make_toolbox(tool or TableTool()).call(only(text), CALLER)


def test_the_calls_of_a_turn_are_found_in_order_whatever_stands_between():
    found = written_calls(f"First {asking('a')} then {asking('b')}, thanks")
    assert [c.arguments["key"] for c in found] == ["a", "b"]


def test_a_turn_without_a_call_has_none():
    assert written_calls("# 7 </tool_call>") == []


def test_what_is_thought_aloud_calls_nothing():
    assert written_calls(f"<think>maybe {asking('a')}</think># 7") == []
    assert only(f"<think>{asking('a')}</think>{asking('b')}").arguments == {"key": "b"}


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("<tool_call>{}</tool_call>", "has no name"),
        ("<tool_call>[]</tool_call>", "has no name"),
        ('<tool_call>{"name": 1, "arguments": {}}</tool_call>', "has no name"),
        ('<tool_call>{"name": "lookup"}</tool_call>', "arguments are no JSON object"),
        ('<tool_call>{"name": "lookup", "arguments": "{}"}</tool_call>', "no JSON object"),
        ('<tool_call>{"name": "lookup", "arguments": {}', "never closed"),
        ("<tool_call>lookup(ab)</tool_call>", "not JSON"),
        ('<tool_call>{"name": NaN}</tool_call>', "not JSON"),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", "not JSON"),
        ('<tool_call>{"name": ' + "9" * 9_000 + "}</tool_call>", "not JSON"),
    ],
)
async def test_what_is_no_call_is_answered_in_words_and_asks_nobody(written, why):
    tool = TableTool()
    made = await answered(written, tool)
    assert made.outcome is CallOutcome.MALFORMED
    assert made.answer.startswith("error: ")
    assert why in made.answer
    assert tool.questions == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, '"key" is a required property'),
        ({"key": 7}, "at key: 7 is not of type"),
        ({"key": "a", "x": 1}, "'x' was unexpected"),
    ],
)
async def test_arguments_that_do_not_fit_the_schema_are_answered_in_words(arguments, why):
    tool = TableTool()
    call = json.dumps({"name": "lookup", "arguments": arguments})
    made = await answered(f"<tool_call>{call}</tool_call>", tool)
    assert (made.outcome, made.tool) == (CallOutcome.MALFORMED, "lookup")
    assert why in made.answer
    assert tool.questions == []


@pytest.mark.parametrize(
    "value", ["1e999", "-1e999", "9" * 4000, "[" * 300 + "]" * 300, "[" * 900 + "]" * 900]
)
async def test_values_that_few_can_carry_are_answered_in_words_too(value):
    tool = TableTool()
    box = make_toolbox(tool, parameters={"type": "object"})
    tool._answer = lambda _: Answer(text="7")
    call = f'<tool_call>{{"name": "lookup", "arguments": {{"key": {value}}}}}</tool_call>'
    made = await box.call(only(call), CALLER)
    assert made.answer
    for question in tool.questions:
        json.dumps(question.content, allow_nan=False)


async def test_a_tool_that_there_is_not_is_answered_with_those_there_are():
    made = await answered(asking().replace("lookup", "shell"))
    assert (made.tool, made.outcome) == ("shell", CallOutcome.UNKNOWN)
    assert made.answer == "error: there is no such tool; there is lookup"


async def test_a_refusal_is_an_answer_that_says_so():
    tool = TableTool(lambda key: Answer(text=f"no {key}", is_refusal=True))
    made = await answered(asking("zz"), tool)
    assert (made.answer, made.outcome) == ("no zz", CallOutcome.REFUSED)


async def test_half_a_surrogate_pair_reaches_no_wire():
    tool = TableTool(lambda key: Answer(text=f"{key} \ud83d"))
    made = await answered(asking("\\ud83d"), tool)
    assert (made.arguments + made.answer).encode("utf-8")


def test_a_schema_that_is_none_is_a_configuration_error():
    for schema in ({"type": "strin"}, {"$ref": "http://elsewhere/x.json"}):
        with pytest.raises(ConfigError, match="no JSON schema"):
            make_toolbox(TableTool(), parameters=schema)


@given(st.text())
def test_no_text_whatever_is_an_exception(text):
    for call in written_calls(f"<tool_call>{text}</tool_call>{text}"):
        assert isinstance(call, Call | ToolCall)
