"""The six dashboards, by the name of their file."""

from __future__ import annotations

from typing import Any

from deploy.monitoring.boards import credit, engines, learning, overview, reliability, verifiers

BOARDS: dict[str, dict[str, Any]] = {
    board["uid"].removeprefix("rlsd-"): board
    for board in (
        overview.board(),
        learning.board(),
        verifiers.board(),
        credit.board(),
        reliability.board(),
        engines.board(),
    )
}
