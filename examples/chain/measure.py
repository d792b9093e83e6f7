"""Measure a chain model: accuracies, and what the privileged context adds token by token.

    python -m examples.chain.measure examples/chain/base

The one question behind the second table: is the teacher better only because it reads the reference?
Where the completion has left the reference, or the reference belongs to another prompt, a teacher
that only reads should believe the same wrong facts as the policy.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import fmean

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3ForCausalLM

from examples.chain import task

HELD_OUT_SEED = 4243
NUM_PROMPTS = 256
COMPLETIONS_PER_PROMPT = 4


@torch.no_grad()
def sample_completions(
    model: Qwen3ForCausalLM, prompt_ids: Tensor, *, num_each: int = 1, greedy: bool = False
) -> Tensor:
    """Return completions `[prompts * num_each, COMPLETION_TOKENS]`, padded, at temperature 1."""
    choice = (
        {"do_sample": False}
        if greedy
        else {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
    )
    ids = model.generate(
        input_ids=prompt_ids,
        attention_mask=torch.ones_like(prompt_ids),
        max_new_tokens=task.COMPLETION_TOKENS,
        num_return_sequences=1 if greedy else num_each,
        **choice,
    )[:, prompt_ids.shape[1] :]
    missing = task.COMPLETION_TOKENS - ids.shape[1]
    return torch.nn.functional.pad(ids, (0, missing), value=model.config.pad_token_id)


@torch.no_grad()
def next_token_probs(model: Qwen3ForCausalLM, prompt_ids: Tensor, completions: Tensor) -> Tensor:
    """Return the distribution that predicts each completion token, `[B, T, V]`."""
    ids = torch.cat([prompt_ids, completions[:, :-1]], dim=1)
    logits = model(input_ids=ids, logits_to_keep=completions.shape[1], use_cache=False).logits
    probs: Tensor = logits.softmax(-1)
    return probs


def accuracy(tokenizer: PreTrainedTokenizerFast, completions: Tensor, answers: list[str]) -> float:
    """Return the share of completions whose verdict is right; rows go round by prompt."""
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    num_each = len(texts) // len(answers)
    return fmean(task.is_right(text, answers[i // num_each]) for i, text in enumerate(texts))


def measure_accuracy(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, chains: Sequence[task.Chain]
) -> dict[str, float]:
    """Return greedy accuracy, mean accuracy of four completions, the teacher's, and leakage.

    `leakage` is the share of policy completions that cite a reference the policy has not read.
    """
    torch.manual_seed(HELD_OUT_SEED)
    values = [task.running_values(chain) for chain in chains]
    answers = [str(v[-1]) for v in values]
    plain, privileged = (
        torch.tensor(task.prompt_ids(tokenizer, prompts))
        for prompts in prompt_pairs(chains, values)
    )
    sampled = sample_completions(model, plain, num_each=COMPLETIONS_PER_PROMPT)
    greedy = sample_completions(model, plain, greedy=True)
    taught = sample_completions(model, privileged)
    cites = (sampled == tokenizer.convert_tokens_to_ids("ref")).any(1).float()
    return {
        "greedy": accuracy(tokenizer, greedy, answers),
        "mean_at_4": accuracy(tokenizer, sampled, answers),
        "privileged": accuracy(tokenizer, taught, answers),
        "leakage": cites.mean().item(),
    }


def prompt_pairs(
    chains: Sequence[task.Chain], references: Sequence[Sequence[int]]
) -> tuple[list[str], list[str]]:
    """Return the policy's and the teacher's prompts."""
    plain = [task.question(chain) for chain in chains]
    traces = [task.trace(reference) for reference in references]
    return plain, [task.teacher_prompt(p, t) for p, t in zip(plain, traces, strict=True)]


def facts_met(
    chain: task.Chain, reference: Sequence[int], written: Sequence[int | None]
) -> Iterator[tuple[str, int, int, int]]:
    """Yield (kind, step index, true value, misconceived value) for each step of a completion.

    `written` holds the value the completion has at each step, None where it holds none. A step is
    `on` when the value before it is the reference's, `off` otherwise.
    """
    value = chain.start
    for k, step in enumerate(chain.steps):
        on = value == (reference[k - 1] if k else chain.start)
        hard = task.has_misconception(value, step)
        true = task.apply(value, step)
        kind = f"{'hard' if hard else 'easy'}_{'on' if on else 'off'}"
        yield kind, k, true, task.misconceived(value, step)
        found = written[k]
        value = true if found is None else found


def read_values(completions: Tensor, zero_id: int) -> list[list[int | None]]:
    """Return the running value written at each step, None where the token is not a digit."""
    digits = completions[:, : 2 * task.NUM_STEPS : 2] - zero_id
    return [[d if 0 <= d < task.MODULUS else None for d in row] for row in digits.tolist()]


def mean_beliefs(
    digit_probs: Tensor,
    chains: Sequence[task.Chain],
    references: Sequence[Sequence[int]],
    written: Sequence[Sequence[int | None]],
) -> dict[str, float]:
    """Return mean probabilities of the true and the misconceived value, by kind of fact.

    `digit_probs` is `[completions, steps, 10]`: what one reader predicts at each running value.
    """
    seen: dict[str, list[float]] = defaultdict(list)
    for i, chain in enumerate(chains):
        for kind, k, true, wrong in facts_met(chain, references[i], written[i]):
            seen[f"{kind}_true"].append(digit_probs[i, k, true].item())
            seen[f"{kind}_misconceived"].append(digit_probs[i, k, wrong].item())
    return {name: fmean(values) for name, values in sorted(seen.items())}


def measure_privilege(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, chains: Sequence[task.Chain]
) -> dict[str, dict[str, float]]:
    """Return `mean_beliefs` of three readers of the same policy completions.

    The readers: the policy, the teacher with the prompt's reference, and the teacher with the
    reference of another prompt.
    """
    torch.manual_seed(HELD_OUT_SEED)
    own = [task.running_values(chain) for chain in chains]
    other = own[-1:] + own[:-1]
    plain, with_own = prompt_pairs(chains, own)
    _, with_other = prompt_pairs(chains, other)
    zero_id = tokenizer.convert_tokens_to_ids("0")
    completions = sample_completions(model, torch.tensor(task.prompt_ids(tokenizer, plain)))
    written = read_values(completions, zero_id)
    table = {}
    for reader, prompts, references in (
        ("policy", plain, own),
        ("own_reference", with_own, own),
        ("other_reference", with_other, other),
    ):
        ids = torch.tensor(task.prompt_ids(tokenizer, prompts))
        probs = next_token_probs(model, ids, completions)[:, : 2 * task.NUM_STEPS : 2]
        digit_probs = probs[..., zero_id : zero_id + task.MODULUS]
        table[reader] = mean_beliefs(digit_probs, chains, references, written)
    return table


def measure(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, object]:
    """Return both tables on chains that depend on a constant seed only, rounded to 3 digits."""
    random = Random(HELD_OUT_SEED)
    chains = [task.draw_chain(random) for _ in range(NUM_PROMPTS)]
    accuracies = measure_accuracy(model, tokenizer, chains)
    privilege = measure_privilege(model, tokenizer, chains)
    return {
        "accuracy": rounded(accuracies),
        "probability": {reader: rounded(row) for reader, row in privilege.items()},
    }


def rounded(row: dict[str, float]) -> dict[str, float]:
    """Round for a file a person reads."""
    return {name: round(value, 3) for name, value in row.items()}


def main() -> None:
    """Print the measurements of a checkpoint as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("checkpoint", type=Path)
    checkpoint: Path = parser.parse_args().checkpoint
    torch.set_num_threads(1)
    model = Qwen3ForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    print(json.dumps(measure(model, AutoTokenizer.from_pretrained(checkpoint)), indent=1))


if __name__ == "__main__":
    main()
