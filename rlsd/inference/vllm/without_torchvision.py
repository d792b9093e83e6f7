"""Let vLLM start with a Qwen3-VL model where torchvision is missing (it has no CPU build for x86).

We send vLLM no videos and no images that are not processed already, so nothing of torchvision would
be used. But vLLM imports a function (`smart_resize`) from a module of transformers that cannot be
imported without it, though the module for Pillow has the same one; and it asks at its start for a
processor that could read videos, whose class transformers leaves out of its tables. Both are put
in place. Where torchvision is installed nothing is changed.
"""

from __future__ import annotations

import importlib.util
import sys


def allow_missing_torchvision() -> None:
    """Change transformers' tables in this process, if torchvision is missing."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    import transformers
    from transformers import Qwen3VLConfig, Qwen3VLMoeConfig
    from transformers.models import qwen3_vl
    from transformers.models.auto.video_processing_auto import AutoVideoProcessor
    from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
    from transformers.video_processing_utils import VideoProcessorMixin

    sys.modules["transformers.models.qwen2_vl.image_processing_qwen2_vl"] = (
        image_processing_pil_qwen2_vl
    )
    qwen3_vl.Qwen3VLVideoProcessor = Qwen3VLVideoProcessor
    transformers.VideoProcessorMixin = VideoProcessorMixin  # what a processor checks its parts by
    for config in (Qwen3VLConfig, Qwen3VLMoeConfig):
        AutoVideoProcessor.register(config, Qwen3VLVideoProcessor, exist_ok=True)
