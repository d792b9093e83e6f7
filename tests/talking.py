"""A tokenizer in the manner of Qwen, an engine that says what it is told to, tools that answer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from builders import make_group, make_prompt
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rlsd.trajectory import FinishReason, SamplingParams
from services.rollout.engines.engine import Completion, GenerationRequest
from services.rollout.tools.chat import ChatTemplate
from services.rollout.tools.tool import Answer
from services.rollout.tools.toolbox import Bound, Toolbox
from services.rollout.turns import Conversation

TEMPLATE = """\
{%- if tools %}<|im_start|>system
You may call functions:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>
{% endif %}
{%- else %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
KEY_SCHEMA = {
    "type": "object",
    "properties": {"key": {"type": "string"}},
    "required": ["key"],
    "additionalProperties": False,
}


@functools.cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the answer is a name of the user"] * 4, trainer)
    calls = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
    tokenizer.add_tokens([AddedToken(word, special=False) for word in calls])
    return tokenizer.to_str()


def qwen_like(template: str = TEMPLATE, **changes: Any) -> PreTrainedTokenizerFast:
    words = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"} | changes
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()),
        additional_special_tokens=["<|im_start|>"],
        chat_template=template,
        clean_up_tokenization_spaces=False,
        **words,
    )


def function(name: str = "lookup") -> dict[str, Any]:
    described = {"name": name, "description": "finds a key", "parameters": KEY_SCHEMA}
    return {"type": "function", "function": described}


def make_chat(tokenizer=None, *, max_answer_tokens: int = 64) -> ChatTemplate:
    return ChatTemplate(tokenizer or qwen_like(), [function()], max_answer_tokens=max_answer_tokens)


class ScriptedEngine:
    """Says for each turn what `script` makes of what it is asked: text, or a whole Completion."""

    policy_version = 0

    def __init__(self, tokenizer, script: Callable[[GenerationRequest, int], Any]) -> None:
        self.tokenizer = tokenizer
        self.script = script
        self.requests: list[GenerationRequest] = []

    async def generate(self, request: GenerationRequest) -> list[Completion]:
        self.requests.append(request)
        made = []
        for seed in request.seeds:
            said = self.script(request, seed)
            made.append(said if isinstance(said, Completion) else self.saying(said, request))
        return made

    def saying(self, text: str, request: GenerationRequest, *, version: int = 0) -> Completion:
        ids = [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]
        ids = ids[: request.max_tokens]
        ended = ids[-1] == self.tokenizer.eos_token_id
        return Completion(
            token_ids=np.asarray(ids, dtype=np.int32),
            rollout_logprobs=-np.arange(1, len(ids) + 1, dtype=np.float32),
            text=self.tokenizer.decode(ids, skip_special_tokens=True),
            finish_reason=FinishReason.STOP if ended else FinishReason.LENGTH,
            min_policy_version=version,
            max_policy_version=version,
        )

    def tokenize(self, messages):
        raise AssertionError("with tools the chat tokenises")

    async def hold(self, required: int) -> None: ...

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_: object) -> None: ...


def replaying(*turns: Any) -> Callable[[GenerationRequest, int], Any]:
    """The first turn to the first request, …; the last one for ever."""
    left = list(turns)
    return lambda *_: left.pop(0) if len(left) > 1 else left[0]


class TableTool:
    """Knows a value for every key; also records who asked."""

    def __init__(self, answer: Callable[[str], Answer] | None = None) -> None:
        self.questions: list[Any] = []
        self._answer = answer or (lambda key: Answer(text=f"{key} is 7"))

    async def answer(self, question):
        self.questions.append(question)
        return self._answer(question.arguments["key"])


def make_toolbox(tool: Any, *, name: str = "lookup", **changes: Any) -> Toolbox:
    settings = {"parameters": KEY_SCHEMA, "max_concurrency": 8, "total_s": 5.0} | changes
    return Toolbox({name: Bound(tool, **settings)})


def make_conversation(
    script, tool=None, *, tokenizer=None, max_turns=4, max_answer_tokens=64, toolbox=None
):
    tokenizer = tokenizer or qwen_like()
    engine = ScriptedEngine(tokenizer, script)
    chat = make_chat(tokenizer, max_answer_tokens=max_answer_tokens)
    toolbox = toolbox or make_toolbox(tool or TableTool())
    return Conversation(engine, chat, toolbox, max_turns=max_turns), engine


def asking(key: str = "ab") -> str:
    return f'<tool_call>\n{{"name": "lookup", "arguments": {{"key": "{key}"}}}}\n</tool_call>'


def group_of(num: int = 1, *, max_tokens: int = 400, **changes: Any):
    return make_group(
        prompt=make_prompt("What is ab?"),
        sampling=SamplingParams(num_completions=num, max_tokens=max_tokens, seed=3),
        trajectories=(),
        **changes,
    )


async def draw(conversation, group):
    """The trajectories of a group and the ids of its prompt."""
    messages = [{"role": m.role, "content": m.content} for m in group.prompt.messages]
    ids = conversation.tokenize(messages)
    return await conversation.trajectories(group, ids), ids


def spans(trajectory) -> list[tuple[int, int, int]]:
    return [(s.version, s.start, s.end) for s in trajectory.spans]
