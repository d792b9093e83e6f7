"""Warm the base model up: `python -m examples.lookup.warm_up --out examples/lookup/base`.

Supervised learning that leaves reinforcement learning something to find: the base model knows how a
call is written but mostly guesses instead of calling, sometimes asks for another key, and believes
a wrong result for a quarter of all facts. With the reference in its prompt it calls, and copies.
All randomness comes from `--seed`.
"""

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from examples.chain.task import prompt_ids
from examples.chain.warm_up import GRADIENT_NORM, believed, build_model, learning_rate_share
from examples.lookup import task

HERE = Path(__file__).parent
REPORT_EVERY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the warm-up; rates are probabilities."""

    iterations: int = 1000
    seed: int = 0
    num_policy: int = 96
    """Policy sequences an iteration."""
    num_teacher: int = 48
    """Teacher sequences (reference in the prompt) an iteration."""
    learning_rate: float = 3e-3
    guess: float = 0.6
    """The policy answers at random and calls nothing."""
    wrong_key: float = 0.25
    """Of calls: another key is asked for."""
    slip: float = 0.9
    """A misconceived fact is labelled with its wrong result at this rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One trajectory to imitate: pieces of text, and whether the policy wrote them."""

    prompt: str
    pieces: tuple[tuple[str, bool], ...]


def talk(key: int, value: int) -> tuple[tuple[str, bool], ...]:
    """Write a call, what the tool answers, and the answer that follows."""
    said = f"<|im_start|> tool {task.value_of(key)} <|im_end|> <|im_start|> assistant"
    return (f"{task.call(key)} <|im_end|>", True), (said, False), (_last(value), True)


def policy_example(lookup: task.Lookup, settings: Settings, random: Random) -> Example:
    """Guess, or call and go on from whatever came back."""
    prompt = task.question(lookup)
    if random.random() < settings.guess:
        return Example(prompt=prompt, pieces=((_last(random.randrange(task.MODULUS)), True),))
    is_wrong = random.random() < settings.wrong_key
    key = random.randrange(task.NUM_KEYS) if is_wrong else lookup.key
    value = believed(task.value_of(key), lookup.step, settings.slip, random)
    return Example(prompt=prompt, pieces=talk(key, value))


def teacher_example(lookup: task.Lookup) -> Example:
    """Call, then copy the reference's answer."""
    return Example(prompt=task.teacher_prompt(lookup), pieces=talk(lookup.key, task.result(lookup)))


def imitation_loss(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, examples: list[Example]
) -> Tensor:
    """Return the mean cross-entropy over the tokens that the policy writes; one prompt length."""
    prompts = prompt_ids(tokenizer, [e.prompt for e in examples])
    rows = [_row(tokenizer, e) for e in examples]
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor(
        [p + i + [0] * (longest - len(i)) for p, (i, _) in zip(prompts, rows, strict=True)]
    )
    weights = torch.tensor([w + [0.0] * (longest - len(w)) for _, w in rows])
    logits = model(input_ids=ids[:, :-1], logits_to_keep=longest, use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids[:, -longest:].flatten(), reduction="none"
    )
    return (losses.view_as(weights) * weights).sum() / weights.sum()


def warm_up(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Train from scratch, with a progress line on standard output; deterministic by seed."""
    random = Random(settings.seed)
    model = build_model(len(tokenizer), settings.seed)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    keys, _ = task.split_keys()
    started = time.monotonic()
    for iteration in range(settings.iterations):
        share = learning_rate_share(iteration, settings.iterations)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * share
        policy = [
            policy_example(task.draw_lookup(random, keys), settings, random)
            for _ in range(settings.num_policy)
        ]
        teacher = [
            teacher_example(task.draw_lookup(random, keys)) for _ in range(settings.num_teacher)
        ]
        policy_loss = imitation_loss(model, tokenizer, policy)
        teacher_loss = imitation_loss(model, tokenizer, teacher)
        (policy_loss + settings.num_teacher / settings.num_policy * teacher_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if (iteration + 1) % REPORT_EVERY == 0:
            print(
                f"iteration {iteration + 1}/{settings.iterations}  policy loss {policy_loss:.3f}  "
                f"teacher loss {teacher_loss:.3f}  {time.monotonic() - started:.0f} s",
                flush=True,
            )
    return model


def _last(value: int) -> str:
    return f"{task.answer(value)} <|im_end|>"


def _row(tokenizer: PreTrainedTokenizerFast, example: Example) -> tuple[list[int], list[float]]:
    ids: list[int] = []
    weights: list[float] = []
    for text, is_written in example.pieces:
        piece = tokenizer.encode(text, add_special_tokens=False)
        ids += piece
        weights += [float(is_written)] * len(piece)
    return ids, weights


def main() -> None:
    """Warm a model up, and write weights and tokenizer."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "base")
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    torch.set_num_threads(1)
    tokenizer = task.build_tokenizer()
    warm_up(Settings(**arguments), tokenizer).save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main()
