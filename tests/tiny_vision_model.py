"""A tiny random Qwen3-VL with its tokenizer, and pictures and records for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
VOCABULARY = {token: n for n, token in enumerate([*SPECIAL, *_LETTERS])}
IMAGE_ID, VIDEO_ID = VOCABULARY["<|image_pad|>"], VOCABULARY["<|video_pad|>"]

TEMPLATE = """\
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content %}
{%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>
{%- else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


RUN = """
[run]
id = "seen"
dir = "runs"
steps = 3
groups_per_step = 4

[model]
path = "model"

[data]
train = "records.jsonl"

[method]
name = "rlsd"

[rollout]
group_size = 4
max_tokens = 8

[teacher]
sync_every = 1

[learner]
lr = 1e-3
microbatch_tokens = 512

[verifier]
kinds = ["regex"]
"""


def write_run(folder: Path) -> Path:
    """A run's model, records, pictures and configuration; the model's folder."""
    model = write_model(folder / "model")
    write_records(folder, write_pictures(folder / "pictures"), 12, pattern="[a-m]")
    (folder / "run.toml").write_text(RUN)
    return model


def run(folder: Path, *overrides: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """`rlsd run` on it."""
    sets = [x for override in overrides for x in ("--set", override)]
    command = [sys.executable, "-m", "rlsd", "run", "run.toml", *sets]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, cwd=folder, check=False
    )


def write_model(folder: Path, *, seed: int = 0) -> Path:
    """A folder that transformers and vLLM load: two layers, heads of 32, patches of 4 pixels."""
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(_config()).eval()
    with torch.no_grad():
        # Random weights of the usual size make every picture look the same.
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
        # Engines bar these two while sampling and the learner does not, so they get no mass.
        _give_no_mass(model, [IMAGE_ID, VIDEO_ID])
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        patch_size=4,
        temporal_patch_size=2,
        merge_size=2,
        size={"shortest_edge": 8 * 8 * 4, "longest_edge": 8 * 8 * 16},
    ).save_pretrained(folder)
    # Checkpoints have it, and vLLM reads it though it gets no videos.
    video = {"video_processor_type": "Qwen3VLVideoProcessor", "patch_size": 4}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
    return folder


def write_pictures(folder: Path, number: int = 4) -> list[Path]:
    """Small pictures in plain and striped colours, of several shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for n in range(number):
        size = (16 + 8 * (n % 3), 16 + 8 * (n // 3 % 3))
        image = Image.new("RGB", size, (60 * n % 256, 255 - 50 * n % 256, 37 * n % 256))
        image.paste((255, 255, 255), (0, 0, 4 + n % 8, size[1] // 2))
        paths.append(folder / f"picture{n}.png")
        image.save(paths[-1])
    return paths


def _config() -> Qwen3VLConfig:
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(VOCABULARY),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "bos_token_id": None,
            "eos_token_id": VOCABULARY["<|im_end|>"],
            "pad_token_id": VOCABULARY["<|endoftext|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_heads": 2,
            "patch_size": 4,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=IMAGE_ID,
        video_token_id=VIDEO_ID,
        vision_start_token_id=VOCABULARY["<|vision_start|>"],
        vision_end_token_id=VOCABULARY["<|vision_end|>"],
        tie_word_embeddings=False,
    )


def _give_no_mass(model: Qwen3VLForConditionalGeneration, ids: list[int]) -> None:
    """There is no bias to do it.

    Column 0 of the residual stream becomes a constant, which only their logits read."""
    text = model.model.language_model
    text.embed_tokens.weight[:, 0] = 1.0
    for layer in text.layers:
        layer.self_attn.o_proj.weight[0] = 0.0
        layer.mlp.down_proj.weight[0] = 0.0
    for merger in (model.model.visual.merger, *model.model.visual.deepstack_merger_list):
        merger.linear_fc2.weight[0] = 0.0
        merger.linear_fc2.bias[0] = 0.0
    model.model.visual.merger.linear_fc2.bias[0] = 1.0
    model.lm_head.weight[:, 0] = 0.0
    model.lm_head.weight[ids] = 0.0
    model.lm_head.weight[ids, 0] = -30.0


def _tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE(vocab=VOCABULARY, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[3:],
        chat_template=TEMPLATE,
    )


def write_records(folder: Path, pictures: list[Path], number: int, *, pattern: str) -> Path:
    """Prompts of several lengths about the pictures, some about two; checked by a pattern."""
    path = folder / "records.jsonl"
    with path.open("w") as file:
        for n in range(number):
            shown = [pictures[n % len(pictures)].name]
            text = "What is this? " + "Look. " * (n % 3)
            if n % 4 == 3:
                shown.append(pictures[(n + 1) % len(pictures)].name)
                text = "From <image> to <image>: which? "
            record = {
                "prompt": text + str(n),
                "images": [f"pictures/{name}" for name in shown],
                "reference": "a",
                "privileged": f"Secret{n}: it is a picture.",
                "verifier": {"kind": "regex", "params": {"pattern": pattern}},
            }
            file.write(json.dumps(record) + "\n")
    return path
