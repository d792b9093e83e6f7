"""The weight store that the configuration names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlsd.config import RunConfig
from rlsd.errors import ConfigError
from rlsd.weights.folder import FolderStore
from rlsd.weights.store import WeightStore


def open_store(
    config: RunConfig,
    *,
    run_dir: Path | None = None,
    pulse: Callable[[], object] = lambda: None,
) -> WeightStore:
    """The store of a run; nothing is asked of it yet.

    Args:
        run_dir: where the run's folder lies now.
        pulse: called while weights move.

    Raises:
        ConfigError: its library is missing, or does not know the settings.
    """
    folder = (run_dir or config.run_dir) / "weights"
    weights = config.weights
    if not weights.url:
        return FolderStore(folder, config.run.id)
    try:
        from rlsd.weights.bucket import Bucket
        from rlsd.weights.s3 import S3Store
    except ImportError as cause:
        raise ConfigError(
            f"weights.url {weights.url!r}: {cause.name} is not installed; pip install 'rlsd[s3]'"
        ) from cause
    name, _, prefix = weights.url.removeprefix("s3://").partition("/")
    return S3Store(
        Bucket(name, endpoint_url=weights.endpoint_url, region=weights.region, pulse=pulse),
        "/".join(part for part in (prefix.strip("/"), config.run.id, "weights") if part),
        config.run.id,
        folder,
        timeout_s=weights.timeout_s,
    )
