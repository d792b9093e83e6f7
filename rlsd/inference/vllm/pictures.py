"""Our pictures as vLLM's own processor would have left them.

vLLM is handed patches, grids and places, so that its images are the learner's to the last bit; it
processes none itself. Names are those of vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlsd.errors import EngineError
from rlsd.policy.vision import Picture


def multimodal_input(
    token_ids: Sequence[int], pictures: Sequence[Picture], *, image_token_id: int, salt: str
) -> dict[str, Any]:
    """A request's prompt: ids with a place for each image token, and the images.

    Args:
        salt: of the weights. It is part of an image's name, by which vLLM remembers what the vision
            tower made of it: new weights would be given the old tower's output.

    Raises:
        EngineError: the places are not those that the pictures need.
    """
    import torch
    from transformers import BatchFeature
    from vllm.inputs.engine import mm_input
    from vllm.multimodal.inputs import (
        MultiModalFieldConfig,
        MultiModalKwargsItems,
        PlaceholderRange,
    )

    starts = _starts(token_ids, pictures, image_token_id)
    grids = torch.tensor([picture.grid for picture in pictures])
    patches = torch.cat([torch.from_numpy(picture.patches_ND) for picture in pictures])
    items = MultiModalKwargsItems.from_hf_inputs(
        BatchFeature({"pixel_values": patches, "image_grid_thw": grids}),
        {
            "pixel_values": MultiModalFieldConfig.flat_from_sizes("image", grids.prod(-1)),
            "image_grid_thw": MultiModalFieldConfig.batched("image", keep_on_cpu=True),
        },
    )
    prompt: dict[str, Any] = mm_input(
        list(token_ids),
        items,
        {"image": [f"{picture.digest}/{salt}" for picture in pictures]},
        {
            "image": [
                PlaceholderRange(offset=start, length=picture.num_tokens)
                for start, picture in zip(starts, pictures, strict=True)
            ]
        },
        cache_salt=salt,
    )
    return prompt


def _starts(
    token_ids: Sequence[int], pictures: Sequence[Picture], image_token_id: int
) -> list[int]:
    """Where each picture's places begin; a place that no picture needs is an error."""
    places = [n for n, i in enumerate(token_ids) if i == image_token_id]
    starts: list[int] = []
    for picture in pictures:
        mine, places = places[: picture.num_tokens], places[picture.num_tokens :]
        if not mine or mine != list(range(mine[0], mine[0] + picture.num_tokens)):
            raise EngineError(f"no {picture.num_tokens} places together for an image's tokens")
        starts.append(mine[0])
    if places:
        raise EngineError(f"{len(places)} places for image tokens and no image for them")
    return starts
