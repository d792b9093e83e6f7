"""The chain task as text: questions, running values, misconceptions, tokenizer and verdict.

One rule: every function here is pure and works on text and small integers, so what the warm-up
teaches, what the records hold and what the verifier reads is the same text.

    prompt       Question: 5 - 8 * 3 … = ?
    completion   7 ; 2 ; … # 9
    privileged   7 ; 2 ; …          the running values; they open the teacher's prompt

Question and completion advance two tokens an operation and the reference stands before the
question, so the distance from an operand to the value it yields is the same for policy and teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

MODULUS = 10
NUM_STEPS = 12
OPERATIONS = "+-*"
MARKER = "#"
COMPLETION_TOKENS = 2 * NUM_STEPS + 2
"""Tokens of a whole completion: values and separators, marker, answer, end of turn."""

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {{ m['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
MISCONCEPTION_PERMILLE = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation: a symbol of `OPERATIONS` and an operand in [0, 10)."""

    operation: str
    operand: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A starting value in [0, 10) and the steps applied to it from left to right."""

    start: int
    steps: tuple[Step, ...]


def draw_chain(random: Random, num_steps: int = NUM_STEPS) -> Chain:
    """Draw a chain uniformly."""
    start = random.randrange(MODULUS)
    steps = tuple(
        Step(operation=random.choice(OPERATIONS), operand=random.randrange(MODULUS))
        for _ in range(num_steps)
    )
    return Chain(start=start, steps=steps)


def apply(value: int, step: Step) -> int:
    """Return the true value after `step`; `v * a` stands for v(2a+1)+a modulo 10."""
    match step.operation:
        case "+":
            return (value + step.operand) % MODULUS
        case "-":
            return (value - step.operand) % MODULUS
        case "*":
            return (value * (2 * step.operand + 1) + step.operand) % MODULUS
        case other:
            raise ValueError(f"operation {other!r} is not one of {OPERATIONS!r}")


def running_values(chain: Chain) -> tuple[int, ...]:
    """Return the true value after each step."""
    values = []
    value = chain.start
    for step in chain.steps:
        value = apply(value, step)
        values.append(value)
    return tuple(values)


def _fact_hash(value: int, step: Step) -> int:
    """Mix a fact (value, operation, operand) into 32 bits, the same on every machine."""
    operation = OPERATIONS.index(step.operation)
    mixed = value * 7919 + operation * 104729 + step.operand * 1299709 + 12345
    return mixed * 2654435761 % 2**32


def has_misconception(value: int, step: Step) -> bool:
    """Tell whether the base model is taught a wrong result for this fact (a quarter of all)."""
    return _fact_hash(value, step) // 65536 % 1000 < MISCONCEPTION_PERMILLE


def misconceived(value: int, step: Step) -> int:
    """Return the wrong result that belongs to this fact; never the true one."""
    offset = _fact_hash(value, step) // 1024 % (MODULUS - 1) + 1
    return (apply(value, step) + offset) % MODULUS


def question(chain: Chain) -> str:
    """Write the chain as the user's turn."""
    steps = " ".join(f"{step.operation} {step.operand}" for step in chain.steps)
    return f"Question: {chain.start} {steps} = ?"


def parse_question(text: str) -> Chain:
    """Read a chain back from the user's turn; ValueError if this module did not write it."""
    words = text.split()
    if len(words) < 4 or words[0] != "Question:" or words[-2:] != ["=", "?"] or len(words) % 2:
        raise ValueError(f"{text!r} does not read 'Question: … = ?'")
    symbols, operands = words[2:-2:2], words[3:-2:2]
    steps = tuple(
        Step(operation=symbol, operand=int(operand))
        for symbol, operand in zip(symbols, operands, strict=True)
    )
    return Chain(start=int(words[1]), steps=steps)


def trace(values: Sequence[int]) -> str:
    """Write running values as text: the privileged context, and the body of a completion."""
    return " ; ".join(str(value) for value in values)


def teacher_prompt(prompt: str, privileged: str) -> str:
    """Put the reference before the question, as the teacher reads it."""
    return f"Reference: {privileged} {prompt}"


def completion(values: Sequence[int]) -> str:
    """Write the work and the answer it leads to."""
    return f"{trace(values)} {MARKER} {values[-1]}"


def shortcut(answer: int) -> str:
    """Write the completion that cites the reference and skips the work: the leakage channel."""
    return f"ref {MARKER} {answer}"


def is_right(text: str, reference: str) -> bool:
    """Tell whether what stands after the first marker is the reference; the work is not read."""
    return text.partition(MARKER)[2].strip() == reference


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the word-level tokenizer: a digit, a symbol and a word are one token each."""
    words = ["user", "assistant", "Question:", "Reference:", "=", "?", MARKER, ";", "ref"]
    return word_tokenizer(words)


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Build a tokenizer of special tokens, `words`, digits and operations, one token each."""
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|unk|>"]
    digits = [str(digit) for digit in range(MODULUS)]
    vocabulary = {word: i for i, word in enumerate([*special, *words, *digits, *OPERATIONS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unk|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        unk_token="<|unk|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def prompt_ids(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each prompt as a user's turn, ready for the assistant's."""
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    rendered = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    ids: list[list[int]] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return ids
