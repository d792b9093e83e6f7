"""From bytes to pixels: the same for every service, whatever else is installed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rlsd.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 50_000_000
"""Of the picture as it is stored; a few kilobytes can claim billions."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What is decoded. Others (vector graphics, PostScript) have decoders that run programs."""


def decode(content: bytes, *, reference: str) -> Image:
    """The picture in RGB, upright, on white where it is transparent; of several, the first.

    Raises:
        ConfigError: not an image, damaged, or of more than `MAX_PIXELS`.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as cause:
        raise ConfigError(
            f"image {reference}: needs pillow; run pip install 'rlsd[images]'"
        ) from cause
    try:
        # Pillow's own limit only warns at first; ours looks at the size that the header states.
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_many(reference, f"{image.width}x{image.height}")
            return _on_white(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as cause:
        known = ", ".join(FORMATS)
        raise ConfigError(f"image {reference}: not an image; give one of {known}") from cause
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as cause:
        raise _too_many(reference, "too many") from cause
    except (OSError, SyntaxError, ValueError, EOFError) as cause:
        what = " ".join(str(cause).split())[:200]
        raise ConfigError(f"image {reference}: damaged ({what}); replace the file") from cause


def _on_white(image: Image) -> Image:
    from PIL import Image as images

    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = images.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _too_many(reference: str, what: str) -> ConfigError:
    return ConfigError(
        f"image {reference}: {what} pixels, allowed {MAX_PIXELS}; give a smaller one"
    )
