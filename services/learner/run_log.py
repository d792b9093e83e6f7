"""What a run leaves for people and the report: metrics, evaluations, the summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlsd import durable


class RunLog:
    """`metrics.jsonl`, `evaluations.jsonl` and `summary.json` of one run folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def metrics(self, line: dict[str, Any]) -> None:
        """Add one step."""
        self._add("metrics.jsonl", line)

    def evaluation(self, line: dict[str, Any]) -> None:
        """Add one evaluation."""
        self._add("evaluations.jsonl", line)

    def evaluations(self) -> list[dict[str, Any]]:
        """All evaluations so far."""
        path = self._folder / "evaluations.jsonl"
        return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []

    def summary(self, summary: dict[str, Any]) -> None:
        """Replace the summary."""
        content = json.dumps(summary, indent=2) + "\n"
        durable.write_file(self._folder / "summary.json", content.encode())

    def rewind(self, step: int) -> None:
        """Drop lines after `step`: a restart executes those steps again."""
        for name, keep in (("metrics.jsonl", step), ("evaluations.jsonl", step)):
            path = self._folder / name
            if path.exists():
                lines = [x for x in path.read_text().splitlines() if json.loads(x)["step"] <= keep]
                durable.write_file(path, "".join(x + "\n" for x in lines).encode())

    def _add(self, name: str, line: dict[str, Any]) -> None:
        with (self._folder / name).open("a") as file:
            file.write(json.dumps(line) + "\n")
