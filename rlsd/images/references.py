"""What a record may name as an image: a file, or an http(s) URL. Nothing is loaded here."""

from __future__ import annotations

from pathlib import Path

from rlsd.errors import ConfigError
from rlsd.verifier_client.addresses import parse_endpoint


def is_url(reference: str) -> bool:
    """Whether it is fetched; else it is a path."""
    return reference.lower().startswith(("http://", "https://"))


def resolved(reference: str, folder: Path | None) -> str:
    """The reference as every service understands it: a URL, or the absolute path of a file.

    Args:
        folder: what a relative path is relative to; None where there is no such folder.

    Raises:
        ConfigError: not http(s), a relative path without a folder, or no such file.
    """
    if is_url(reference):
        try:
            parse_endpoint(reference, default_path="/")
        except ConfigError as cause:
            raise ConfigError(f"image {reference[:200]!r}: no usable URL ({cause})") from cause
        return reference
    if "://" in reference or reference.startswith("data:"):
        raise ConfigError(f"image {reference[:60]!r}: give a path, or a URL of http or https")
    path = Path(reference)
    if not path.is_absolute():
        if folder is None:
            raise ConfigError(f"image {reference[:200]!r}: relative to no file; give a whole path")
        path = folder.absolute() / path
    if not path.is_file():
        raise ConfigError(f"image {path}: there is no such file; correct the path")
    return str(path)
