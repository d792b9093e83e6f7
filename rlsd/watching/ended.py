"""How a run ended that nobody runs any more, from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsd.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What `summary.json` says, and what it means in words."""

    summary: dict[str, Any]
    words: str

    @property
    def is_sound(self) -> bool:
        """Whether the account closed and nothing was trained twice."""
        return not (self.summary["identity_residual"] or self.summary["trained_twice"])


def ended(folder: Path) -> Ended:
    """What to say of a run that nobody runs.

    Raises:
        ConfigError: it is no run's folder, or it was killed before it could say anything.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except FileNotFoundError as cause:
        raise ConfigError(
            f"run {folder}: has no addresses.json, so nothing runs it on this machine; "
            "elsewhere, leave the folder out and set the RLSD_*_ADDRESS variables"
        ) from cause
    state = "was interrupted" if summary["interrupted"] else "ended"
    return Ended(
        summary=summary, words=f"run {summary['run_id']} {state} at step {summary['steps']}"
    )
