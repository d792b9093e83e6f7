"""How a vision model reads the images of a prompt: patches for its tower, places among the ids.

Every service makes both here, with the model's own processor on Pillow, and hands them to whatever
computes. So no engine has pixels of its own, which other libraries would resize to other numbers.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlsd.errors import ConfigError
from rlsd.images.decoding import decode
from rlsd.images.files import ImageFiles
from rlsd.trajectory import FloatArray

_HELD_BYTES = 512 * 2**20
"""Of patches: those of some dozens of large images. Siblings and both teacher contexts share them,
and a step's microbatches come back to them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """One image as the model's vision tower reads it."""

    patches_ND: FloatArray
    """[N, D] normalised pixels of N patches."""
    grid: tuple[int, int, int]
    """Patches in time, height and width; their product is N."""
    num_tokens: int
    """Places that it takes among the prompt's ids."""
    digest: str
    """Of patches and grid."""


class Vision:
    """The images of one model. Any thread may ask."""

    def __init__(self, processor: Any, files: ImageFiles, *, image_token_id: int) -> None:
        """Remember the parts.

        Args:
            processor: transformers' image processor, which yields pixel_values and image_grid_thw.
            image_token_id: what stands for an image among ids: in a chat once, for the model once
                for each of the image's tokens.
        """
        self._processor = processor
        self._files = files
        self._image_token_id = image_token_id
        self._held: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def pictures(self, references: Sequence[str]) -> tuple[Picture, ...]:
        """The images in order; recent ones are held.

        Raises:
            ConfigError, ServiceError, StorageError: an image cannot be had or read.
        """
        return tuple(self._picture(reference) for reference in references)

    def expanded(self, ids: Sequence[int], references: Sequence[str]) -> list[int]:
        """The ids of a chat with each image's place repeated for each of its tokens.

        Raises:
            ConfigError: not as many places as images, or an image cannot be had.
        """
        places = sum(i == self._image_token_id for i in ids)
        if places != len(references):
            raise ConfigError(
                f"a prompt has {len(references)} images and {places} places for them once the chat "
                "template is applied; its text must not hold the model's own image token, and the "
                "template must read images"
            )
        pictures = iter(self.pictures(references))
        whole: list[int] = []
        for i in ids:
            whole += [i] * next(pictures).num_tokens if i == self._image_token_id else [i]
        return whole

    def _picture(self, reference: str) -> Picture:
        with self._lock:
            if (held := self._held.get(reference)) is not None:
                self._held.move_to_end(reference)
                return held
        picture = self._processed(reference)
        with self._lock:
            self._held[reference] = picture
            while sum(p.patches_ND.nbytes for p in self._held.values()) > _HELD_BYTES:
                self._held.popitem(last=False)
        return picture

    def _processed(self, reference: str) -> Picture:
        image = decode(self._files.read(reference), reference=reference)
        try:
            found = self._processor(images=[image], return_tensors="np")
        except ValueError as cause:  # a side 200 times the other
            raise ConfigError(f"image {reference}: {cause}; give another one") from cause
        patches = np.ascontiguousarray(found["pixel_values"], dtype=np.float32)
        time, height, width = (int(n) for n in found["image_grid_thw"][0])
        digest = hashlib.sha256(patches.tobytes())
        digest.update(repr((time, height, width)).encode())
        return Picture(
            patches_ND=patches,
            grid=(time, height, width),
            num_tokens=time * height * width // self._processor.merge_size**2,
            digest=digest.hexdigest(),
        )


def load_vision(model_path: str, files: ImageFiles) -> Vision | None:
    """What the model at `model_path` reads images with; None for a model of text alone.

    Raises:
        ConfigError: it reads images, and not as Qwen-VL models do, or its processor is missing.
    """
    from transformers import AutoConfig, AutoImageProcessor

    try:
        config = AutoConfig.from_pretrained(model_path)
    except (OSError, ValueError) as cause:
        what = " ".join(str(cause).split())[:200]
        raise ConfigError(
            f"model.path {model_path!r}: no config.json can be read ({what})"
        ) from cause
    if not reads_images(config):
        return None
    try:
        processor = AutoImageProcessor.from_pretrained(model_path, backend="pil")
    except (OSError, ValueError, ImportError) as cause:
        what = " ".join(str(cause).split())[:200]
        raise ConfigError(
            f"model.path {model_path!r}: no image processor can be loaded ({what}); it needs "
            "preprocessor_config.json, and pip install 'rlsd[images]'"
        ) from cause
    if "image_grid_thw" not in processor.model_input_names:
        raise ConfigError(
            f"model.path {model_path!r}: images of {config.model_type} are not supported; those of "
            "the Qwen-VL family are"
        )
    return Vision(processor, files, image_token_id=config.image_token_id)


def reads_images(config: Any) -> bool:
    """Whether a transformers configuration is that of a model with a vision tower."""
    return getattr(config, "vision_config", None) is not None


def barred_ids(config: Any) -> tuple[int, ...]:
    """Ids that stand for pixels, of which a completion has none.

    One that was sampled would leave every later forward pass with a place and no image for it.
    They are barred while sampling; nothing else makes up for it, as a trained model gives them no
    mass to speak of.
    """
    if not reads_images(config):
        return ()
    names = ("image_token_id", "video_token_id")
    return tuple(int(i) for name in names if (i := getattr(config, name, None)) is not None)
