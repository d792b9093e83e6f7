"""The bytes of an image by its reference. What comes from a URL is kept in the run's folder.

So every service reads the same picture, a run that is trained again does too, and a server is asked
once for each of them.
"""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rlsd.config import RunConfig
from rlsd.durable import write_file
from rlsd.errors import ConfigError, StorageError
from rlsd.images.fetching import fetch
from rlsd.images.references import is_url
from rlsd.verifier_client.addresses import Network

MAX_BYTES = 32 * 2**20
TIMEOUT_S = 20.0
"""Of one URL, redirects included."""


def image_files(config: RunConfig) -> ImageFiles:
    """The images of a run."""
    return ImageFiles(config.run_dir / "images", allowed=config.data.image_cidrs)


class ImageFiles:
    """Reads images; any thread may ask."""

    def __init__(
        self,
        kept: Path,
        *,
        allowed: Sequence[Network] = (),
        max_bytes: int = MAX_BYTES,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Remember the settings.

        Args:
            kept: the folder, shared by all services, for what was fetched.
            allowed: networks beyond the public ones that URLs may lead to.
        """
        self._kept = kept
        self._allowed = tuple(allowed)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._fetching: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def read(self, reference: str) -> bytes:
        """The bytes of an image.

        Raises:
            ConfigError: there is no such image, or it is too large.
            ServiceError: its server cannot be reached in time.
            StorageError: what was fetched cannot be kept.
        """
        return self._by_url(reference) if is_url(reference) else self._file(Path(reference))

    def _file(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                content = file.read(self._max_bytes + 1)
        except OSError as cause:
            raise ConfigError(
                f"image {path}: cannot be read ({cause.strerror}); every service must see it "
                "under this path"
            ) from cause
        if len(content) > self._max_bytes:
            raise ConfigError(
                f"image {path}: larger than {self._max_bytes // 2**20} MiB; give a smaller one"
            )
        return content

    def _by_url(self, url: str) -> bytes:
        kept = self._kept / hashlib.sha256(url.encode()).hexdigest()
        with self._fetching[url]:
            if kept.is_file():
                return self._file(kept)
            content = fetch(
                url, allowed=self._allowed, max_bytes=self._max_bytes, timeout_s=self._timeout_s
            )
            try:
                self._kept.mkdir(parents=True, exist_ok=True)
                write_file(kept, content, is_new=True)
            except FileExistsError:  # another service was first; all are to read the same
                return self._file(kept)
            except OSError as cause:
                raise StorageError(f"{self._kept}: cannot be made ({cause.strerror})") from cause
            return content
