"""Who may write the run: the learner that took the lease last.

Taking it raises an epoch in the run's folder. A learner that was paused and comes back, or a
second one started by mistake, finds a higher epoch before its next durable write and ends. Between
that look and the write there is a gap, which the batch log closes: a step is written only once.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from rlsd import durable
from rlsd.errors import ServiceError


class FencedError(ServiceError):
    """Another learner has taken over this run."""


class Lease:
    """The right of one learner to write the run."""

    def __init__(self, folder: Path) -> None:
        """Take the lease; every earlier holder is fenced from now on."""
        self._path = folder / "lease.json"
        self.epoch = _epoch(self._path) + 1
        holder = {"epoch": self.epoch, "host": socket.gethostname(), "pid": os.getpid()}
        durable.make_folder(folder)
        durable.write_file(self._path, json.dumps(holder).encode())

    def check(self) -> None:
        """Raise FencedError when the lease is another's; call it before every durable write."""
        epoch = _epoch(self._path)
        if epoch != self.epoch:
            raise FencedError(
                f"another learner has taken over this run (lease {epoch}, ours {self.epoch}); "
                "this one stops"
            )


def _epoch(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["epoch"])
    except FileNotFoundError:
        return 0
