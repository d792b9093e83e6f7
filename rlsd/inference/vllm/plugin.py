"""What vLLM calls in each of its processes as it starts them (entry point `vllm.general_plugins`).

A service that is killed cannot stop its children, and vLLM's scheduler would go on without it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal

from rlsd.inference.vllm.without_torchvision import allow_missing_torchvision
from rlsd.telemetry.process import end_with_parent

OURS = "RLSD_VLLM"
"""Set by the engine: vLLM may be used beside rlsd without it."""
READS_IMAGES = "RLSD_VLLM_IMAGES"
"""Set by the engine of a model that reads images."""


def register() -> None:
    """End a child of ours with its parent, and let it start without torchvision."""
    if not os.environ.get(OURS):
        return
    if os.environ.get(READS_IMAGES):  # also where vLLM only looks at a model's class
        allow_missing_torchvision()
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    end_with_parent(signal.SIGKILL)
    if not parent.is_alive():  # it ended before it could be heard of
        os._exit(1)
