"""What a span of ours can say: its kind, and every attribute."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Kind(StrEnum):
    """Which side of a call a span is of."""

    INTERNAL = "internal"
    CLIENT = "client"
    SERVER = "server"


class Attribute(StrEnum):
    """What is said of a group, a step or a call; all values are ids, counts or closed words."""

    RUN_ID = "rlsd.run_id"
    GROUP_ID = "rlsd.group_id"
    GROUP_INDEX = "rlsd.group_index"
    """Admission order within the run, from 0."""
    STAGE = "rlsd.stage"
    """rollout, verify, teach or train."""
    DELIVERIES = "rlsd.deliveries"
    """How often the group was handed out at this stage, this time included."""
    STEP = "rlsd.step"
    """Optimizer step, from 1."""
    POLICY_VERSION = "rlsd.policy_version"
    """The version that the step published."""
    MIN_POLICY_VERSION = "rlsd.min_policy_version"
    """Oldest version that drew a token of the group."""
    MAX_POLICY_VERSION = "rlsd.max_policy_version"
    """Newest version that drew a token of the group."""
    OUTCOME = "rlsd.outcome"
    """trained, rejected or failed."""
    REASON = "rlsd.reason"
    """Of a rejection, or the type of the error that a group failed with."""
    TRAJECTORIES = "rlsd.trajectories"
    PROMPT_TOKENS = "rlsd.prompt_tokens"
    COMPLETION_TOKENS = "rlsd.completion_tokens"
    """Drawn by the policy, over the whole group."""
    TOOL_CALLS = "rlsd.tool_calls"
    VERDICTS_SCORED = "rlsd.verdicts.scored"
    VERDICTS_ERROR = "rlsd.verdicts.error"
    VERDICTS_TIMEOUT = "rlsd.verdicts.timeout"
    TEACHER_VERSION = "rlsd.teacher_version"
    TEACHER_SKIPPED = "rlsd.teacher_skipped"
    """The plan asked for scores and the teacher gave none."""
    GROUPS = "rlsd.groups"
    """Logged with the step."""
    GROUPS_TRAINED = "rlsd.groups.trained"
    RESUMED = "rlsd.resumed"
    """A restart executed the step again from the batch log."""
    VERIFIER = "rlsd.verifier"
    """The configured name of a verifier outside this system."""
    RESULT = "rlsd.result"
    """Of one try at it: scored, error, timeout, unavailable, forbidden or broken."""
    RPC_SYSTEM = "rpc.system.name"
    RPC_METHOD = "rpc.method"
    ERROR_TYPE = "error.type"


Attributes = Mapping[Attribute, str | int | bool]
