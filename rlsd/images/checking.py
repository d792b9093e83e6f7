"""Refusing, before a service starts, a run whose images nobody would read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rlsd.config import RunConfig
from rlsd.errors import ConfigError
from rlsd.images.references import is_url
from rlsd.trajectory import Prompt


def check_images(config: RunConfig, prompts: Sequence[Prompt]) -> None:
    """Return when the prompts have no images, or the model and the engines read them.

    Raises:
        ConfigError: the model in the folder reads text alone, an engine is a running server, or
            services would each fetch an image for themselves.
    """
    if not any(prompt.images for prompt in prompts):
        return
    remedy = "leave the images out of the records, or"
    if _reads_text_alone(Path(config.model.path) / "config.json"):
        raise ConfigError(
            f"model.path {config.model.path!r} reads text alone and prompts have images; {remedy} "
            "give a model of the Qwen-VL family"
        )
    for name, section in (("rollout", config.rollout), ("teacher", config.teacher)):
        if section.engine_url:
            raise ConfigError(
                f"{name}.engine_url: a running server takes no images and prompts have some; "
                f"{remedy} use an engine in the service"
            )
    if config.weights.url and any(is_url(i) for prompt in prompts for i in prompt.images):
        raise ConfigError(
            "weights.url: with it services share no folder, and an image by URL might not be the "
            "same for all of them; give images as files, or leave weights.url out"
        )


def _reads_text_alone(described: Path) -> bool:
    """As far as can be told here: a model of the hub, or a torn file, is its loader's affair."""
    try:
        return "vision_config" not in json.loads(described.read_text())
    except (OSError, ValueError):
        return False
