"""Print a comparison's results.json as a Markdown table: `python benchmarks/table.py FILE`."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any


def percents(values: list[float]) -> str:
    """Whole percents by seed."""
    return " / ".join(f"{100 * v:.0f}" for v in values)


def row(name: str, runs: list[dict[str, Any]]) -> str:
    """One arm over its seeds, at its last evaluation."""
    last = [r["evaluations"][-1] for r in runs]
    greedy = [e["greedy_accuracy"] for e in last]
    sampled = [e["mean_at_k"] for e in last]
    leaks = [max(e["leakage"] for e in r["evaluations"]) for r in runs]
    error = statistics.stdev(sampled) / len(sampled) ** 0.5 if len(sampled) > 1 else float("nan")
    mean = f"{100 * statistics.mean(sampled):.0f} ± {100 * error:.0f}"
    now = percents([e["leakage"] for e in last])
    cells = [name, percents(greedy), percents(sampled), mean, percents(leaks), now]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Read the file, print the table."""
    results = json.loads(Path(sys.argv[1]).read_text())
    arms: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in results["arms"]:
        arms[run["name"]].append(run)
    k = results["arms"][0]["evaluations"][-1]["k"]
    print(f"| arm | greedy by seed, % | mean@{k} by seed, % | mean ± s.e. | leakage, max | last |")
    print("|---|---|---|---|---|---|")
    for name, runs in arms.items():
        print(row(name, runs))


if __name__ == "__main__":
    main()
