"""The picture in docs/tracing.md: `PYTHONPATH=. python benchmarks/trace_picture.py` (1 min).

Runs four steps of the demo with a verifier behind HTTP, receives the spans, and draws the slowest
trained group of the last step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from rlsd.local.processes import free_ports
from tests.otlp_receiver import Receiver, Span, receiving

PICTURE = Path("docs/images/trace.png")
STEPS = 4
_COLOURS = {
    "rlsd-learner": "#4c6ef5",
    "rlsd-rollout": "#f59f00",
    "rlsd-verifier": "#37b24d",
    "rlsd-teacher": "#ae3ec9",
    "chain": "#868e96",
}


def main() -> None:
    """Run, receive, draw."""
    with receiving() as receiver, tempfile.TemporaryDirectory() as folder:
        run(Path(folder), receiver)
        draw(slowest(receiver))
    print(PICTURE)


def run(folder: Path, receiver: Receiver) -> None:
    """The demo's prompts, judged by the example's check as a service of its own."""
    port = free_ports(1)[0]
    data = folder / "train.jsonl"
    with open("examples/chain/train.jsonl") as lines:
        records = [json.loads(line) for line in lines]
    verifier = {"kind": "http", "params": {"verifier": "chain", "task": {"after": "#"}}}
    data.write_text("".join(json.dumps(r | {"verifier": verifier}) + "\n" for r in records))
    serve = (
        "from examples.enterprise_verifier.server import check, serve; "
        f"serve(check, name='chain', bind='127.0.0.1:{port}')"
    )
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    server = subprocess.Popen(
        [sys.executable, "-c", serve], env=environment, stderr=subprocess.DEVNULL
    )
    sets = [
        f'run.dir="{folder}"',
        'run.id="demo"',
        f"run.steps={STEPS}",
        f'data.train="{data}"',
        f'data.held_out="{data}"',
        "evaluation.limit=1",
        "evaluation.samples=0",
        "evaluation.every=1000",
        'verifier.kinds=["http"]',
        f'verifier.http.chain.url="http://127.0.0.1:{port}"',
        'verifier.http.chain.allow_cidrs=["127.0.0.0/8"]',
    ]
    command = [sys.executable, "-m", "rlsd", "run", "examples/chain/rlsd.toml"]
    try:
        subprocess.run(
            [*command, *(x for s in sets for x in ("--set", s))],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    finally:
        server.terminate()
        server.wait()


def slowest(receiver: Receiver) -> list[Span]:
    """The trace of the last step whose group took longest."""
    roots = [
        s
        for s in receiver.named("group")
        if s.attributes.get("rlsd.policy_version") == STEPS
        and s.attributes["rlsd.outcome"] == "trained"
    ]
    root = max(roots, key=lambda s: s.end_ns - s.start_ns)
    return receiver.traces()[root.trace_id]


def draw(trace: list[Span]) -> None:
    """One bar a span, below its parent."""
    (root,) = [s for s in trace if not s.parent_id]
    rows = list(_below(trace, root, 0))
    figure, axes = pyplot.subplots(figsize=(11, 0.26 * len(rows) + 1.2))
    for row, (span, depth) in enumerate(rows):
        left = (span.start_ns - root.start_ns) / 1e6
        width = (span.end_ns - span.start_ns) / 1e6
        colour = _COLOURS[span.service]
        axes.barh(row, max(width, 1.0), left=left, height=0.7, color=colour)
        axes.text(
            0.015 * depth - 0.17,
            row,
            _label(span),
            va="center",
            fontsize=8,
            transform=axes.get_yaxis_transform(),
        )
        axes.text(
            left + width + 4, row, f"{width:.0f} ms", va="center", fontsize=7, color="#495057"
        )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xlim(0, 1.08 * (root.end_ns - root.start_ns) / 1e6)
    axes.set_xlabel("milliseconds since the learner sent the prompt off")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=c) for c in _COLOURS.values()]
    names = [*list(_COLOURS)[:-1], "a verifier outside"]
    axes.legend(handles, names, fontsize=8, loc="lower left", frameon=False)
    attributes = root.attributes
    axes.set_title(
        f"{attributes['rlsd.group_id']} of run demo → policy version "
        f"{attributes['rlsd.policy_version']}    trace {root.trace_id}",
        fontsize=9,
    )
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def _below(trace: list[Span], span: Span, depth: int) -> Iterator[tuple[Span, int]]:
    yield span, depth
    for child in [s for s in trace if s.parent_id == span.span_id]:
        yield from _below(trace, child, depth + 1)


def _label(span: Span) -> str:
    stage = span.attributes.get("rlsd.stage", "")
    return f"{span.name} ({stage})" if span.name == "queue.wait" else span.name


if __name__ == "__main__":
    main()
