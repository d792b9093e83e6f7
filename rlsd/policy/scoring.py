"""Log-probs of given completion tokens under a model: the one forward pass that all services share.

Rows are laid out so that completions align: prefixes padded on the left, completions on the right.
Padding changes no number of a real token: it is masked, and positions count real tokens only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlsd.errors import ConfigError
from rlsd.policy.vision import Picture

Ids = npt.NDArray[np.int32] | Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Prefixes of up to P and completions of up to T tokens, padded into rectangles."""

    prefix_BP: Tensor
    completion_BT: Tensor
    mask_BT: Tensor
    """bool, True on completion tokens."""
    attention_BL: Tensor | None
    """[B, P+T] True on real tokens; None when nothing is padded on the left."""
    pictures: tuple[Picture, ...] = ()
    """Of all rows, in order; a row without images has none."""


def pad_rows(
    prefixes: Sequence[Ids],
    completions: Sequence[Ids],
    *,
    pad_id: int,
    pictures: Sequence[Sequence[Picture]] = (),
) -> Rows:
    """Rows from ragged ids; every completion has at least one token.

    Args:
        pictures: for each row those that its prefix has places for; empty when no row has any.
    """
    num_prefix = max(len(p) for p in prefixes)
    num_completion = max(len(c) for c in completions)
    shape = (len(prefixes), num_prefix + num_completion)
    ids = np.full(shape, pad_id, dtype=np.int64)
    real = np.zeros(shape, dtype=bool)
    for row, (prefix, completion) in enumerate(zip(prefixes, completions, strict=True)):
        start, end = num_prefix - len(prefix), num_prefix + len(completion)
        ids[row, start:num_prefix] = prefix
        ids[row, num_prefix:end] = completion
        real[row, start:end] = True
    attention = None if real[:, 0].all() else torch.from_numpy(real)
    return Rows(
        prefix_BP=torch.from_numpy(ids[:, :num_prefix]),
        completion_BT=torch.from_numpy(ids[:, num_prefix:]),
        mask_BT=torch.from_numpy(real[:, num_prefix:]),
        attention_BL=attention,
        pictures=tuple(picture for of_row in pictures for picture in of_row),
    )


def completion_logits(model: Any, rows: Rows, *, temperature: float) -> Tensor:
    """[B, T, V] float32 logits that predict each completion token, divided by the temperature.

    A causal model cannot see padding on the right of a token, so without padding on the left no
    mask is needed and attention takes its fast path.
    """
    input_ids = torch.cat([rows.prefix_BP, rows.completion_BT[:, :-1]], dim=1)
    device = next(model.parameters()).device
    extra: dict[str, Tensor] = {}
    if rows.attention_BL is not None:
        attention = rows.attention_BL[:, :-1]
        positions = (attention.long().cumsum(1) - 1).clamp(min=0)
        extra = {
            "attention_mask": attention.long().to(device),
            "position_ids": positions.to(device),
        }
    if rows.pictures:
        extra.pop("position_ids", None)  # in three dimensions, which the model works out itself
        extra |= vision_inputs(model, input_ids, rows.pictures)
    output = model(
        input_ids=input_ids.to(device),
        logits_to_keep=rows.completion_BT.shape[1],
        use_cache=False,
        **extra,
    )
    logits: Tensor = output.logits.float()
    return logits if temperature == 1.0 else logits / temperature


def vision_inputs(model: Any, input_ids: Tensor, pictures: Sequence[Picture]) -> dict[str, Tensor]:
    """What a Qwen-VL model's forward pass takes beside ids that have places for these pictures.

    Raises:
        ConfigError: the places are not as many as the pictures need.
    """
    device = next(model.parameters()).device
    is_image = input_ids == model.config.image_token_id
    places, needed = int(is_image.sum()), sum(picture.num_tokens for picture in pictures)
    if places != needed:
        raise ConfigError(
            f"a prompt's ids have places for {places} image tokens and its images now need "
            f"{needed}; put the files back as they were when it was sampled from"
        )
    patches = np.concatenate([picture.patches_ND for picture in pictures])
    return {
        "pixel_values": torch.from_numpy(patches).to(device),
        "image_grid_thw": torch.tensor([picture.grid for picture in pictures], device=device),
        "mm_token_type_ids": is_image.int().to(device),
    }


def gather_logprobs(logits_BTV: Tensor, ids_BT: Tensor) -> Tensor:
    """[B, T] nats: log softmax of the logits at the given ids."""
    chosen = logits_BTV.gather(-1, ids_BT[..., None])[..., 0]
    return chosen - logits_BTV.logsumexp(-1)


def microbatches(
    prefix_lengths: Sequence[int], completion_lengths: Sequence[int], *, max_tokens: int
) -> Iterator[list[int]]:
    """Row numbers in order, cut so that one padded rectangle has at most `max_tokens` tokens.

    A single row longer than that is a microbatch of its own.
    """
    rows: list[int] = []
    longest_prefix = longest_completion = 0
    for row, (prefix, completion) in enumerate(
        zip(prefix_lengths, completion_lengths, strict=True)
    ):
        width = max(longest_prefix, prefix) + max(longest_completion, completion)
        if rows and width * (len(rows) + 1) > max_tokens:
            yield rows
            rows, longest_prefix, longest_completion = [], 0, 0
        rows.append(row)
        longest_prefix = max(longest_prefix, prefix)
        longest_completion = max(longest_completion, completion)
    if rows:
        yield rows


@torch.no_grad()
def sequence_logprobs(model: Any, token_ids: Sequence[int]) -> Tensor:
    """[L-1] nats of tokens 1…L-1 of one sequence, each given those before it."""
    rows = pad_rows([token_ids[:1]], [token_ids[1:]], pad_id=0)
    logits = completion_logits(model, rows, temperature=1.0)
    return gather_logprobs(logits, rows.completion_BT.to(logits.device))[0].cpu()
