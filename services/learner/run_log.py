"""What a run leaves for people, audit and report: configuration, metrics, evaluations, summary."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from rlsd import durable


class RunLog:
    """`config.json`, `summary.json` and the lines of `*.jsonl` of one run folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        durable.make_folder(folder)

    def config(self, values: dict[str, Any]) -> None:
        """Say what the run is made with, as every later reader of the folder takes it."""
        content = json.dumps(values, indent=2) + "\n"
        durable.write_file(self._folder / "config.json", content.encode())

    def metrics(self, line: dict[str, Any]) -> None:
        """Add one step."""
        self._add("metrics.jsonl", line)

    def evaluation(self, line: dict[str, Any]) -> None:
        """Add one evaluation."""
        self._add("evaluations.jsonl", line)

    def evaluations(self) -> list[dict[str, Any]]:
        """All evaluations so far."""
        return self._lines("evaluations.jsonl")

    def summary(self, summary: dict[str, Any]) -> None:
        """Replace the summary."""
        content = json.dumps(summary, indent=2) + "\n"
        durable.write_file(self._folder / "summary.json", content.encode())

    def rewind(self, step: int) -> None:
        """Drop metrics after `step`: a restart executes those steps again.

        Evaluations stay: they measured published versions, which a restart leaves as they are.
        """
        self._keep("metrics.jsonl", [x for x in self._lines("metrics.jsonl") if x["step"] <= step])
        self._keep("evaluations.jsonl", self.evaluations())  # without what a crash has torn

    def _keep(self, name: str, lines: list[dict[str, Any]]) -> None:
        content = "".join(json.dumps(x) + "\n" for x in lines)
        durable.write_file(self._folder / name, content.encode())

    def _lines(self, name: str) -> list[dict[str, Any]]:
        """Whole lines; one that a crash or a full disk has torn is left out."""
        path = self._folder / name
        found = []
        for line in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def _add(self, name: str, line: dict[str, Any]) -> None:
        with (self._folder / name).open("a") as file:
            file.write(json.dumps(line) + "\n")
