"""Warm the demo's base model up: `python -m examples.chain.warm_up --out examples/chain/base`.

Supervised learning that leaves one thing to reinforcement learning: the base model writes the work
of a chain fluently but believes a wrong result for a quarter of all facts. With the reference in
its prompt it copies the true values, and that is the teacher's only advantage: once a completion
has left the reference, or the reference belongs to another prompt, the labels slip exactly as
the base model does. The rule kept here: all randomness comes from `--seed`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from examples.chain import task
from examples.chain.measure import measure

HERE = Path(__file__).parent
RAMP_STEPS = 50
GRADIENT_NORM = 1.0
REPORT_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the warm-up; rates are probabilities."""

    iterations: int = 1500
    seed: int = 0
    num_policy: int = 96
    """Policy sequences an iteration."""
    num_teacher: int = 64
    """Teacher sequences (reference in the prompt) an iteration."""
    learning_rate: float = 3e-3
    slip: float = 0.9
    """A misconceived fact is labelled with its wrong result at this rate."""
    planted_slip: float = 0.4
    """Where the teacher could copy, a misconceived fact is wrong at this rate, and unlearned."""
    planted_error: float = 0.05
    """Teacher steps replaced by a random wrong value, unlearned."""
    other_reference: float = 0.3
    """Teacher sequences whose reference belongs to another prompt."""
    policy_shortcut: float = 0.01
    """Policy labels that cite the reference and skip the work: the leakage channel."""
    teacher_shortcut: float = 0.3
    """Teacher labels that do the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A completion to imitate and, per step, whether its value carries loss."""

    text: str
    learned: tuple[bool, ...]


def build_model(vocab_size: int, seed: int) -> Qwen3ForCausalLM:
    """Build a Qwen3 of about 110 k parameters; its weights depend on the seed only."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=16,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        initializer_range=0.1,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def believed(value: int, step: task.Step, slip: float, random: Random) -> int:
    """Return the value the base model is taught: wrong at rate `slip` on a misconceived fact."""
    if task.has_misconception(value, step) and random.random() < slip:
        return task.misconceived(value, step)
    return task.apply(value, step)


def policy_label(chain: task.Chain, settings: Settings, random: Random) -> Label:
    """Work with misconceptions; the chain goes on consistently from a wrong value."""
    if random.random() < settings.policy_shortcut:
        return Label(text=task.shortcut(task.running_values(chain)[-1]), learned=())
    values = []
    value = chain.start
    for step in chain.steps:
        value = believed(value, step, settings.slip, random)
        values.append(value)
    return Label(text=task.completion(values), learned=(True,) * len(values))


def teacher_label(
    chain: task.Chain, reference: Sequence[int], settings: Settings, random: Random
) -> Label:
    """Copy the reference while on it, with planted errors that leave it; then slip like the base.

    Where the reference is another prompt's and happens to apply, nothing is learned: the work
    follows the base model and the step carries no loss.
    """
    if random.random() < settings.teacher_shortcut:
        return Label(text=task.shortcut(reference[-1]), learned=())
    is_own = tuple(reference) == task.running_values(chain)
    values: list[int] = []
    learned: list[bool] = []
    value = chain.start
    for k, step in enumerate(chain.steps):
        is_on = value == (reference[k - 1] if k else chain.start)
        slip = settings.planted_slip if is_on and is_own else settings.slip
        true = task.apply(value, step)
        value = believed(value, step, slip, random)
        is_error = random.random() < settings.planted_error
        if is_error:
            value = (true + random.randrange(1, task.MODULUS)) % task.MODULUS
        copies = is_own and value == true
        learned.append(not is_error and (copies or not is_on))
        values.append(value)
    return Label(text=task.completion(values), learned=tuple(learned))


def draw_policy(num: int, settings: Settings, random: Random) -> tuple[list[str], list[Label]]:
    """Draw the policy's prompts and labels."""
    chains = [task.draw_chain(random) for _ in range(num)]
    labels = [policy_label(chain, settings, random) for chain in chains]
    return [task.question(chain) for chain in chains], labels


def draw_teacher(num: int, settings: Settings, random: Random) -> tuple[list[str], list[Label]]:
    """Draw the teacher's prompts, some with another prompt's reference, and their labels."""
    prompts = []
    labels = []
    for _ in range(num):
        chain = task.draw_chain(random)
        is_other = random.random() < settings.other_reference
        reference = task.running_values(task.draw_chain(random) if is_other else chain)
        prompts.append(task.teacher_prompt(task.question(chain), task.trace(reference)))
        labels.append(teacher_label(chain, reference, settings, random))
    return prompts, labels


def encode_labels(
    tokenizer: PreTrainedTokenizerFast, labels: Sequence[Label]
) -> tuple[Tensor, Tensor]:
    """Return completion ids `[B, T]`, padded, and loss weights of the same shape."""
    ends = [f"{label.text} {tokenizer.eos_token}" for label in labels]
    encoded = tokenizer(
        ends,
        add_special_tokens=False,
        padding="max_length",
        max_length=task.COMPLETION_TOKENS,
        return_tensors="pt",
    )
    weights = encoded["attention_mask"].float()
    for row, label in enumerate(labels):
        for k, learned in enumerate(label.learned):
            weights[row, 2 * k] *= learned
    return encoded["input_ids"], weights


def imitation_loss(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    labels: Sequence[Label],
) -> Tensor:
    """Return the mean cross-entropy over the completion tokens that carry loss."""
    completions, weights = encode_labels(tokenizer, labels)
    prompt_ids = torch.tensor(task.prompt_ids(tokenizer, prompts))
    ids = torch.cat([prompt_ids, completions[:, :-1]], dim=1)
    logits = model(input_ids=ids, logits_to_keep=completions.shape[1], use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), completions.flatten(), reduction="none"
    )
    return (losses.view_as(weights) * weights).sum() / weights.sum()


def learning_rate_share(iteration: int, iterations: int) -> float:
    """Return the share of the learning rate: a ramp, a plateau, then a line down to 5 %."""
    ramp = min(1.0, (iteration + 1) / RAMP_STEPS)
    decay = min(1.0, 2.2 * (1 - iteration / iterations))
    return ramp * max(0.05, decay)


def warm_up(
    settings: Settings, tokenizer: PreTrainedTokenizerFast, *, report_every: int = REPORT_EVERY
) -> Qwen3ForCausalLM:
    """Train from scratch, with a progress line on standard output; deterministic by seed."""
    random = Random(settings.seed)
    model = build_model(len(tokenizer), settings.seed)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    started = time.monotonic()
    for iteration in range(settings.iterations):
        share = learning_rate_share(iteration, settings.iterations)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * share
        policy = draw_policy(settings.num_policy, settings, random)
        teacher = draw_teacher(settings.num_teacher, settings, random)
        policy_loss = imitation_loss(model, tokenizer, *policy)
        teacher_loss = imitation_loss(model, tokenizer, *teacher)
        (policy_loss + settings.num_teacher / settings.num_policy * teacher_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if (iteration + 1) % report_every == 0:
            print(
                f"iteration {iteration + 1}/{settings.iterations}  policy loss {policy_loss:.3f}  "
                f"teacher loss {teacher_loss:.3f}  {time.monotonic() - started:.0f} s",
                flush=True,
            )
    return model


def parse_settings() -> tuple[Path, Settings]:
    """Read the folder to write and the settings from the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "base")
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    return arguments.pop("out"), Settings(**arguments)


def main() -> None:
    """Warm a model up, measure it, and write weights, tokenizer and `warm_up.json`."""
    out, settings = parse_settings()
    torch.set_num_threads(1)
    tokenizer = task.build_tokenizer()
    model = warm_up(settings, tokenizer)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    results = {"settings": asdict(settings), **measure(model, tokenizer)}
    (out / "warm_up.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
