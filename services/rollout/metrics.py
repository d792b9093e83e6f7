"""Metrics of the rollout service."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter, Histogram

from rlsd.telemetry import tracing
from rlsd.telemetry.metrics import LateGauge, create, labelled
from rlsd.telemetry.weights import WeightMeter
from rlsd.trajectory import CallOutcome, FinishReason, Trajectory

_TOOL = "the names of tools.use"

TOKENS = create(
    labelled(
        Counter("rlsd_rollout_tokens", "Tokens of prompts, completions and tools.", ["kind"]),
        kind=("prompt", "completion", "tool"),
    )
)
COMPLETIONS = create(
    labelled(
        Counter("rlsd_rollout_completions", "Completions by how they ended.", ["finish_reason"]),
        finish_reason=tuple(FinishReason),
    )
)
DURATION = Histogram(
    "rlsd_rollout_group_duration_seconds",
    "From the request of a group to its last token, waiting included.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 2400),
)
POLICY_VERSION = LateGauge("rlsd_rollout_policy_version", "Version of the installed weights.")
WEIGHTS = WeightMeter("rollout")
PROBE_DIFFERENCE = LateGauge(
    "rlsd_rollout_probe_difference_nats",
    "Largest log-prob difference between engine and learner on the probe of the last update.",
)

TURNS = Histogram(
    "rlsd_rollout_turns",
    "Turns of the policy in a trajectory.",
    buckets=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
)
TOOL_CALLS = labelled(
    Counter(
        "rlsd_rollout_tool_calls",
        "Calls of tools by what became of them. An empty tool is one that there is not.",
        ["tool", "outcome"],
    ),
    tool=_TOOL,
    outcome=(*CallOutcome, "error"),
)
TOOL_RETRIES = labelled(
    Counter("rlsd_rollout_tool_retries", "Tries of a call after the first.", ["tool"]), tool=_TOOL
)
TOOL_DURATION = labelled(
    Histogram(
        "rlsd_rollout_tool_duration_seconds",
        "One call until its answer, waiting for a place and further tries included.",
        ["tool"],
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    ),
    tool=_TOOL,
)


def create_of(tool: str) -> None:
    """Have the counters of a configured tool at 0."""
    create(TOOL_CALLS, tool=tool)
    TOOL_RETRIES.labels(tool)


def observe_call(tool: str, outcome: CallOutcome | None) -> None:
    """Count a call; None is one whose tool could not be asked."""
    TOOL_CALLS.labels(tool, "error" if outcome is None else outcome.value).inc()


def observe_installation(version: int, *, probe_difference: float) -> None:
    """Note one update of the weights."""
    PROBE_DIFFERENCE.set(probe_difference)
    POLICY_VERSION.set(version)


def observe(trajectories: Sequence[Trajectory], num_prompt_tokens: int, duration_s: float) -> None:
    """Count one finished group."""
    num_sampled = sum(t.num_sampled for t in trajectories)
    TOKENS.labels("prompt").inc(num_prompt_tokens)
    TOKENS.labels("completion").inc(num_sampled)
    TOKENS.labels("tool").inc(sum(t.num_tokens for t in trajectories) - num_sampled)
    for trajectory in trajectories:
        COMPLETIONS.labels(trajectory.finish_reason.value).inc()
        TURNS.observe(trajectory.num_turns)
    DURATION.observe(duration_s, tracing.exemplar())
