"""Refusing, before a service starts, a run whose images nobody would read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rlsd.config import RunConfig
from rlsd.errors import ConfigError
from rlsd.trajectory import Prompt


def check_images(config: RunConfig, prompts: Sequence[Prompt]) -> None:
    """Return when the prompts have no images, or the model and the engines read them.

    Raises:
        ConfigError: the model in the folder reads text alone, or an engine is a running server.
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


def _reads_text_alone(described: Path) -> bool:
    """As far as can be told here: a model of the hub, or a torn file, is its loader's affair."""
    try:
        return "vision_config" not in json.loads(described.read_text())
    except (OSError, ValueError):
        return False
