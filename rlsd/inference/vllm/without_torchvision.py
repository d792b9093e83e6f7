"""Let vLLM start with a Qwen3-VL model where torchvision is missing (it has no CPU build for x86).

Only videos need it, of which we send none: vLLM asks at its start for a processor that could read
them. transformers' class for that can be made without torchvision, and is left out of its tables
there; it goes back in. Where torchvision is installed nothing is changed.
"""

from __future__ import annotations

import importlib.util


def allow_missing_torchvision() -> None:
    """Change transformers' tables in this process, if torchvision is missing."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    import transformers
    from transformers import Qwen3VLConfig, Qwen3VLMoeConfig
    from transformers.models.auto.video_processing_auto import AutoVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
    from transformers.video_processing_utils import VideoProcessorMixin

    transformers.VideoProcessorMixin = VideoProcessorMixin  # what a processor checks its parts by
    for config in (Qwen3VLConfig, Qwen3VLMoeConfig):
        AutoVideoProcessor.register(config, Qwen3VLVideoProcessor, exist_ok=True)
