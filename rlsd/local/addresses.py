"""`addresses.json` of a run's folder: where its parts are while local mode runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rlsd import durable
from rlsd.errors import ConfigError

_NAME = "addresses.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAddresses:
    """The parts of one run by name."""

    run_id: str
    services: Mapping[str, str]
    """gRPC addresses."""
    probes: Mapping[str, str] = field(default_factory=dict)
    """Where `/livez` is."""
    redis_url: str | None = None
    """None without queues, and when the URL holds a password, which no file may."""

    def write(self, folder: Path) -> None:
        """Put it into the run's folder."""
        url = self.redis_url
        values = asdict(self) | {"redis_url": None if url and urlsplit(url).password else url}
        durable.write_file(folder / _NAME, (json.dumps(values, indent=2) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> RunAddresses | None:
        """What the run's folder says, or None when it says nothing: nothing runs.

        Raises:
            ConfigError: it cannot be understood.
        """
        path = folder / _NAME
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as cause:
            raise ConfigError(f"{path}: cannot be read ({cause}); start the run again") from cause

    @staticmethod
    def remove(folder: Path) -> None:
        """The run has ended."""
        (folder / _NAME).unlink(missing_ok=True)
