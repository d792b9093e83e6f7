"""Structured logs: one JSON object a line, a fixed event name, ids bound once.

Prompts, completions and privileged context appear at DEBUG only, and cut short.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "taskName", "asctime"}


class JsonLines(logging.Formatter):
    """A record as one JSON object; fields given by `extra` stand beside the event."""

    def __init__(self, **bound: str) -> None:
        super().__init__()
        self._bound = bound

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **self._bound,
        }
        fields |= {k: v for k, v in record.__dict__.items() if k not in _STANDARD}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


def configure_logs(service: str, *, run_id: str = "", level: str = "INFO") -> None:
    """Send this process' records to standard error as JSON lines with `service` and `run_id`."""
    handler = logging.StreamHandler(sys.stderr)
    bound = {"service": service} | ({"run_id": run_id} if run_id else {})
    handler.setFormatter(JsonLines(**bound))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for noisy in ("httpx", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
