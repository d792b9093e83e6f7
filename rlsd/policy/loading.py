"""Load the model and tokenizer of a run, and install a published version in place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from rlsd.errors import ConfigError, WeightsError
from rlsd.images.placing import Chat, images_of
from rlsd.policy.scoring import sequence_logprobs
from rlsd.policy.vision import Vision, reads_images
from rlsd.telemetry.weights import UNMETERED, WeightFailure, WeightMeter, WeightPhase
from rlsd.weights import Fetched, Probe

transformers_logging.disable_progress_bar()  # standard error carries JSON lines only


def local_device() -> torch.device:
    """Choose the GPU of this process (torchrun's LOCAL_RANK, of several), else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def load_model(path: str, *, device: torch.device, dtype: str = "float32") -> Any:
    """The causal language model at `path`, with its vision tower if it has one, in evaluation mode.

    Raises:
        ConfigError: it cannot be loaded.
    """
    try:
        config = AutoConfig.from_pretrained(path)
        kind = AutoModelForImageTextToText if reads_images(config) else AutoModelForCausalLM
        model = kind.from_pretrained(path, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    except (OSError, ValueError) as cause:
        raise ConfigError(
            f"model.path {path!r}: no causal language model can be loaded "
            f"({_first_line(cause)}); give a folder with config.json and safetensors"
        ) from cause
    return model.eval().to(device)


def load_tokenizer(path: str) -> Any:
    """The tokenizer at `path`; it must have a chat template and an end-of-sequence token.

    Raises:
        ConfigError: it cannot be loaded, or one of the two is missing.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as cause:
        raise ConfigError(
            f"model.path {path!r}: no tokenizer can be loaded ({_first_line(cause)})"
        ) from cause
    for attribute in ("chat_template", "eos_token_id"):
        if getattr(tokenizer, attribute) is None:
            raise ConfigError(f"model.path {path!r}: the tokenizer has no {attribute}; add one")
    return tokenizer


def prompt_ids(
    tokenizer: Any,
    messages: Chat,
    vision: Vision | None = None,
    *,
    tools: Sequence[dict[str, Any]] = (),
) -> list[int]:
    """Token ids of a chat up to where the assistant's completion begins.

    Args:
        tools: functions that the chat template shows, where it knows how.
        vision: of a model that reads images; an image takes as many ids as the model needs for it.

    Raises:
        ConfigError: the chat has images, and the model reads none or has no place for them.
    """
    ids = tokenizer.apply_chat_template(
        messages,
        tools=list(tools) or None,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    images = images_of(messages)
    if vision is not None:
        return vision.expanded(ids, images)
    if images:
        raise ConfigError(
            f"a prompt has {len(images)} images and the model reads text alone; give a model of "
            "the Qwen-VL family, or records without images"
        )
    return list(ids)


def install(
    model: Any, fetched: Fetched, *, tolerance: float, meter: WeightMeter = UNMETERED
) -> float:
    """Load a verified version into `model` in place, then prove it by the learner's probe.

    Args:
        tolerance: largest |Δ log-prob| in nats between this model and the learner on the probe.
        meter: hears how long that takes, all of which the model computes nothing else.

    Returns:
        That difference.

    Raises:
        WeightsError: the version cannot be read, does not fit, or the probe disagrees.
    """
    version = fetched.manifest.version
    installing = meter.phase(WeightPhase.INSTALL, fails_as=WeightFailure.DAMAGED)
    with meter.phase(WeightPhase.PAUSE), installing:
        _load_state(model, fetched)
        difference = probe_difference(model, fetched.manifest.probe)
    if not difference <= tolerance:
        meter.failed(WeightFailure.PROBE)
        raise WeightsError(
            f"weights v{version}: log-probs differ from the learner's by {difference:.2g} nats "
            f"on the probe, allowed {tolerance:g}"
        )
    meter.moved(fetched.folder)
    return difference


def _load_state(model: Any, fetched: Fetched) -> None:
    version = fetched.manifest.version
    state: dict[str, torch.Tensor] = {}
    try:
        for file in sorted(fetched.folder.glob("*.safetensors")):
            state.update(load_file(file))
    except (OSError, SafetensorError) as cause:
        raise WeightsError(f"weights v{version}: cannot be read ({cause})") from cause
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as cause:
        raise WeightsError(f"weights v{version}: do not fit the model ({cause})") from cause
    model.tie_weights()
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    if unexpected or set(missing) - tied:
        raise WeightsError(f"weights v{version}: missing {missing}, unexpected {unexpected}")


def take_probe(model: Any, token_ids: list[int]) -> Probe:
    """The probe of a model's present weights."""
    logprobs = sequence_logprobs(model, token_ids)
    return Probe(token_ids=tuple(token_ids), logprobs=tuple(logprobs.tolist()))


def probe_difference(model: Any, probe: Probe) -> float:
    """Largest |Δ log-prob| in nats between the model and the probe."""
    logprobs = sequence_logprobs(model, list(probe.token_ids))
    return float((logprobs - torch.tensor(probe.logprobs)).abs().max())


def save_model(model: Any, state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write `state` as a folder that transformers, vLLM and SGLang can load."""
    model.save_pretrained(folder, state_dict=state)


def _first_line(cause: Exception) -> str:
    return str(cause).strip().splitlines()[0][:200] if str(cause).strip() else type(cause).__name__
