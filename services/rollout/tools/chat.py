"""The tokens around what the policy writes: its first prompt, and what stands between two turns.

What the policy wrote is never tokenised again. What comes after one of its turns begins behind a
special token, so tokenising that alone gives the ids that it has within the whole chat.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from rlsd.errors import ConfigError
from rlsd.images.placing import Chat
from rlsd.policy.loading import prompt_ids
from rlsd.policy.vision import Vision
from rlsd.trajectory import CallOutcome, IntArray, ToolCall

_TURN, _ANSWER = "MARKER-OF-A-TURN", "MARKER-OF-AN-ANSWER"
_CUT = " … [cut]"
_MOST_CHARACTERS_A_TOKEN = 64
_SHOWN = 200
_UNREADABLE = "error: the answer holds control tokens"


class ChatTemplate:
    """One tokenizer with its chat template."""

    def __init__(
        self,
        tokenizer: Any,
        functions: Sequence[dict[str, Any]],
        *,
        max_answer_tokens: int,
        vision: Vision | None = None,
    ) -> None:
        """Try the template.

        Raises:
            ConfigError: it cannot hold the answers of tools, or not so that their ids are exact.
        """
        self._tokenizer = tokenizer
        self._functions = list(functions)
        self._vision = vision
        self._max_answer_tokens = max_answer_tokens
        self.end_id: int = tokenizer.eos_token_id
        """Ends a turn of the policy."""
        special = {i: str(t) for i, t in tokenizer.added_tokens_decoder.items() if t.special}
        by_length = sorted(special.values(), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, by_length)) or r"(?!)")
        self._special_ids = set(special) - {tokenizer.unk_token_id}
        self._try()

    @property
    def shows_tools(self) -> bool:
        """Whether the template tells the policy which tools there are."""
        messages: Chat = [{"role": "user", "content": "."}]
        with_tools = prompt_ids(self._tokenizer, messages, tools=self._functions)
        return with_tools != prompt_ids(self._tokenizer, messages)

    def prompt(self, messages: Chat) -> list[int]:
        """Ids of a chat up to where the policy's first turn begins."""
        return prompt_ids(self._tokenizer, messages, self._vision, tools=self._functions)

    def words(self, token_ids: IntArray) -> str:
        """What the policy wrote in one turn, special tokens included."""
        ids = token_ids[:-1] if token_ids[-1] == self.end_id else token_ids
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def readable(self, answer: str) -> str:
        """The answer as the policy is to read it: cut, and unable to end its own turn."""
        answer = self._apart(answer)
        return self._cut(_UNREADABLE if self._controls(answer) else answer)

    def between(self, calls: Sequence[ToolCall]) -> list[int]:
        """Ids from behind a turn's end token to the beginning of the policy's next turn.

        Args:
            calls: at least one, with readable answers.
        """
        end = str(self._tokenizer.eos_token)
        _, _, after = self._whole(_TURN, calls).partition(_TURN)
        after = after.lstrip()
        if not after.startswith(end):
            raise ConfigError(
                f"model.path: the chat template does not end an assistant's turn with {end!r}, the "
                f"tokenizer's eos_token; set eos_token to what ends it, or remove [tools]"
            )
        # Tokenised with the end token before it: some tokenizers treat the start of a text apart.
        return self._ids(after)[1:]

    def _try(self) -> None:
        call = ToolCall(tool="f", arguments="{}", answer=_ANSWER, outcome=CallOutcome.ANSWERED)
        between = self.between([call])
        whole = self._whole("a", [call])
        if _ANSWER not in whole:
            raise ConfigError(
                "model.path: the chat template leaves out messages of the role 'tool'; give one "
                "that shows them, or remove [tools]"
            )
        if self._ids(whole)[-len(between) - 1 :] != [self.end_id, *between]:
            raise ConfigError(
                "model.path: this tokenizer gives other ids to the answer of a tool alone than "
                "within the chat; use another model, or remove [tools]"
            )

    def _whole(self, turn: str, calls: Sequence[ToolCall]) -> str:
        # The name is the policy's word, and some templates show it.
        names = [self._apart(c.tool) for c in calls]
        answers = [
            {"role": "tool", "name": name if not self._controls(name) else "", "content": c.answer}
            for name, c in zip(names, calls, strict=True)
        ]
        before = [{"role": "user", "content": "."}, {"role": "assistant", "content": turn}]
        try:
            rendered = self._tokenizer.apply_chat_template(
                [*before, *answers],
                tools=self._functions,
                add_generation_prompt=True,
                tokenize=False,
            )
        except (TemplateError, TypeError, KeyError, ValueError) as cause:
            why = " ".join(str(cause).split())[:_SHOWN]
            raise ConfigError(
                f"model.path: the chat template refuses the answer of a tool ({why}); give one "
                f"that knows the role 'tool', or remove [tools]"
            ) from cause
        return str(rendered)

    def _apart(self, text: str) -> str:
        """The text with a space within what would be a control token."""
        return self._special.sub(lambda found: f"{found[0][:1]} {found[0][1:]}", text)

    def _controls(self, text: str) -> bool:
        return bool(self._special_ids.intersection(self._ids(text)))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _cut(self, answer: str) -> str:
        limit = self._max_answer_tokens
        start = answer[: _MOST_CHARACTERS_A_TOKEN * limit]
        if start == answer and len(self._ids(answer)) <= limit:
            return answer
        kept = bisect_right(
            range(len(start) + 1), limit, key=lambda n: len(self._ids(start[:n] + _CUT))
        )
        return start[: max(0, kept - 1)] + _CUT
