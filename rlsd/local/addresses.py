"""Where the parts of a run are while local mode runs them, in two files of its folder.

`addresses.json` is for `rlsd why`; `prometheus_targets.json` for a Prometheus with
`file_sd_configs` (docs/monitoring.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rlsd import durable
from rlsd.errors import ConfigError

_NAME = "addresses.json"
_TARGETS = "prometheus_targets.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAddresses:
    """The parts of one run by name."""

    run_id: str
    services: Mapping[str, str]
    """gRPC addresses."""
    probes: Mapping[str, str] = field(default_factory=dict)
    """Where `/livez` and `/metrics` are."""
    redis_url: str | None = None
    """None without queues, and when the URL holds a password, which no file may."""

    def write(self, folder: Path) -> None:
        """Put both files into the run's folder."""
        url = self.redis_url
        values = asdict(self) | {"redis_url": None if url and urlsplit(url).password else url}
        for name, content in ((_NAME, values), (_TARGETS, self._targets())):
            durable.write_file(folder / name, (json.dumps(content, indent=2) + "\n").encode())

    def _targets(self) -> list[dict[str, object]]:
        """As Prometheus reads it: an address of `/metrics` with the labels of all it says."""
        return [
            {"targets": [address], "labels": {"run": self.run_id, "service": service}}
            for service, address in self.probes.items()
        ]

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
        for name in (_NAME, _TARGETS):
            (folder / name).unlink(missing_ok=True)
