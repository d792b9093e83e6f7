"""The lookup task as text: keys, the table behind the tool, questions, calls and the tokenizer.

    prompt       Question: [ 4 7 1 ] + 5 = ?
    turn 0       <tool_call> {"name": "lookup", "arguments": {"key": " 4 7 1 "}} </tool_call>
    tool         8
    turn 1       # 3
    privileged   8 ; 3

The operation is one step of `examples.chain`, with its misconceptions. Held-out keys are in no
training prompt, so knowing the values of others by heart does not help.
"""

from dataclasses import dataclass
from hashlib import sha256
from random import Random

from transformers import PreTrainedTokenizerFast

from examples.chain.task import MARKER, MODULUS, OPERATIONS, Step, apply, word_tokenizer

NUM_KEYS = 1000
NUM_HELD_OUT_KEYS = 200
CALL = '<tool_call> {"name": "lookup", "arguments": {"key": " KEY "}} </tool_call>'
REFUSAL = "no such key"
_SALT = "the table of examples/lookup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A key in [0, 1000) and the step applied to its value."""

    key: int
    step: Step


def spelled(key: int) -> str:
    """Write a key as three digits apart."""
    return " ".join(f"{key:03d}")


def value_of(key: int) -> int:
    """Return what the table holds for a key, in [0, 10)."""
    return sha256(f"{_SALT}/{key}".encode()).digest()[0] % MODULUS


def result(lookup: Lookup) -> int:
    """Return the true answer."""
    return apply(value_of(lookup.key), lookup.step)


def split_keys() -> tuple[list[int], list[int]]:
    """Return the keys of training prompts and those held out."""
    keys = list(range(NUM_KEYS))
    Random(20).shuffle(keys)
    return keys[NUM_HELD_OUT_KEYS:], keys[:NUM_HELD_OUT_KEYS]


def draw_lookup(random: Random, keys: list[int]) -> Lookup:
    """Draw a question about one of the keys uniformly."""
    step = Step(operation=random.choice(OPERATIONS), operand=random.randrange(MODULUS))
    return Lookup(key=random.choice(keys), step=step)


def question(lookup: Lookup) -> str:
    """Write it as the user's turn."""
    step = lookup.step
    return f"Question: [ {spelled(lookup.key)} ] {step.operation} {step.operand} = ?"


def privileged(lookup: Lookup) -> str:
    """Write what only the teacher may read: the value and the answer."""
    return f"{value_of(lookup.key)} ; {result(lookup)}"


def teacher_prompt(lookup: Lookup) -> str:
    """Put it before the question."""
    return f"Reference: {privileged(lookup)} {question(lookup)}"


def call(key: int) -> str:
    """Write the turn that asks the tool."""
    return CALL.replace("KEY", spelled(key))


def answer(value: int) -> str:
    """Write the last turn."""
    return f"{MARKER} {value}"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the word-level tokenizer: a call is eleven tokens, whose spelling is JSON."""
    words = ["user", "assistant", "tool", "Question:", "Reference:", "[", "]", "=", "?", ";"]
    words += [MARKER, *REFUSAL.split(), *dict.fromkeys(CALL.replace("KEY", "").split())]
    return word_tokenizer(words)
