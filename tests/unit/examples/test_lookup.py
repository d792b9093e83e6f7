"""The lookup example: its text, its table, its records, its tool."""

from random import Random

import httpx
import pytest

from examples.chain import records as chain_records
from examples.lookup import records, server, task
from rlsd.trajectory import CallOutcome, ToolCall
from services.rollout.tools.calls import written_calls
from services.rollout.tools.chat import ChatTemplate


@pytest.fixture(scope="module")
def tokenizer():
    return task.build_tokenizer()


@pytest.fixture(scope="module")
def lookups():
    keys, _ = task.split_keys()
    random = Random(5)
    return [task.draw_lookup(random, keys) for _ in range(50)]


def test_every_text_of_the_task_is_in_the_vocabulary(tokenizer, lookups):
    for lookup in lookups:
        texts = task.teacher_prompt(lookup), task.call(lookup.key), task.answer(3), task.REFUSAL
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text


def test_a_call_spelled_in_tokens_is_a_call(tokenizer):
    [call] = written_calls(task.call(7))
    assert (call.tool, dict(call.arguments)) == ("lookup", {"key": " 0 0 7 "})


def test_the_chat_can_hold_the_tools_answers(tokenizer):
    chat = ChatTemplate(tokenizer, [], max_answer_tokens=16)
    call = ToolCall(tool="lookup", arguments="", answer="8", outcome=CallOutcome.ANSWERED)
    between = tokenizer.decode(chat.between([call]))
    assert between == "<|im_start|> tool 8 <|im_end|> <|im_start|> assistant"


def test_no_key_of_a_held_out_prompt_is_in_a_training_prompt():
    def keys(name):
        read = chain_records.read(records.HERE / name)
        return {r["prompt"].partition("[")[2].partition("]")[0] for r in read}, len(read)

    train, num_train = keys("train.jsonl")
    held_out, num_held_out = keys("held_out.jsonl")
    assert not train & held_out
    assert (num_train, num_held_out) == (records.NUM_TRAIN, records.NUM_HELD_OUT)


def test_the_records_are_those_of_their_script():
    train, held_out = task.split_keys()
    for keys, name, num in ((train, "train", 3), (held_out, "held_out", 3)):
        drawn = records.draw_records(num, keys, name.replace("_", "-"), records.SEED)
        assert drawn == chain_records.read(records.HERE / f"{name}.jsonl")[:num]


def test_the_table_holds_every_digit_about_as_often_as_any_other():
    counts = [0] * 10
    for key in range(task.NUM_KEYS):
        counts[task.value_of(key)] += 1
    assert min(counts) > 70


@pytest.mark.parametrize(
    ("key", "status", "answer"),
    [
        (" 4 7 1 ", 200, str(task.value_of(471))),
        ("4 7", 404, task.REFUSAL),
        ("4 7 ²", 404, task.REFUSAL),
        ("", 404, task.REFUSAL),
    ],
)
async def test_the_tool_answers_keys_and_refuses_the_rest(key, status, answer):
    transport = httpx.ASGITransport(app=server.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://tool") as client:
        call = {"tool": "lookup", "arguments": {"key": key}, "trajectory": {"member": 0}}
        reply = await client.post("/", json=call)
    assert (reply.status_code, reply.json()) == (status, {"answer": answer})
