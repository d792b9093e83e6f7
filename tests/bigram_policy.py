"""A policy of examples/lookup that nobody trained: its next token depends on the last one alone.

With even odds it calls the tool, mostly for the key 4 7 1, or answers at random. The answer of the
tool tells it nothing, so it may call again.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch

from examples.chain.warm_up import build_model
from examples.lookup import task

IMPOSSIBLE = -30.0
LIKELY = 3.0
SCALE = 8.0
"""A one-hot vector of 64 after RMSNorm."""


def write_policy(folder: Path) -> Path:
    """Write model and tokenizer."""
    tokenizer = task.build_tokenizer()
    model = build_model(len(tokenizer), seed=0)
    table = _next_tokens(tokenizer)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(len(tokenizer), 64))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, : len(tokenizer)] = table.T / SCALE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _next_tokens(tokenizer) -> torch.Tensor:
    """[V, V] logits of the next token by the last."""
    table = torch.full((len(tokenizer), len(tokenizer)), IMPOSSIBLE)
    table[:, tokenizer.eos_token_id] = 0.0
    table[tokenizer.unk_token_id] = 0.0

    def follow(last: str, *following: str, logit: float = LIKELY) -> None:
        ids = tokenizer.convert_tokens_to_ids([last, *following])
        assert tokenizer.unk_token_id not in ids
        table[ids[0], ids[1:]] = logit

    words = task.call(471).split()
    for last, following in itertools.pairwise(words):
        follow(last, following)
    follow("assistant", words[0], "#", logit=10.0)
    follow("#", *map(str, range(10)))
    return table
