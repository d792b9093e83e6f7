"""One tiny Qwen3-VL and some pictures for all tests, and what services make of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vision_model import write_model, write_pictures

from rlsd.images.files import ImageFiles
from rlsd.policy.loading import load_model, load_tokenizer
from rlsd.policy.vision import Vision, load_vision


@dataclass(frozen=True)
class Seeing:
    """A model's folder, the model, and all that reads for it."""

    folder: Path
    model: Any
    tokenizer: Any
    vision: Vision
    pictures: tuple[str, ...]


@pytest.fixture(scope="session")
def seeing(tmp_path_factory) -> Seeing:
    torch.set_num_threads(1)
    base = tmp_path_factory.mktemp("seeing")
    folder = write_model(base / "model")
    vision = load_vision(str(folder), ImageFiles(base / "kept"))
    assert vision is not None
    return Seeing(
        folder=folder,
        model=load_model(str(folder), device=torch.device("cpu")),
        tokenizer=load_tokenizer(str(folder)),
        vision=vision,
        pictures=tuple(str(p) for p in write_pictures(base / "pictures", 9)),
    )
