"""What travels through the system: a prompt, its group of sibling trajectories, their verdicts.

Plain frozen data without I/O. A stage never changes a group in place: it returns a new one with its
own part filled in (`dataclasses.replace`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """The policy ended it with an end-of-sequence token."""
    LENGTH = "length"
    """It reached `max_tokens`: the text is cut."""
    TURNS = "turns"
    """It still called tools after the last turn that it was allowed."""


class CallOutcome(StrEnum):
    """What became of a call that the policy wrote. Each is an answer to the policy, in words."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """By the tool, which can do nothing with these arguments."""
    MALFORMED = "malformed"
    """It is no call, or its arguments are not what the tool takes: nobody was asked."""
    UNKNOWN = "unknown"
    """No tool has that name."""


class VerdictOutcome(StrEnum):
    """The three things a check can say. Only `SCORED` carries a reward."""

    SCORED = "scored"
    ERROR = "error"
    TIMEOUT = "timeout"


class GroupOutcome(StrEnum):
    """Where a group stands. Every admitted group ends in exactly one of the last three."""

    IN_FLIGHT = "in_flight"
    TRAINED = "trained"
    REJECTED = "rejected"
    FAILED = "failed"


class RejectReason(StrEnum):
    """Why a group that was sampled without fault is not trained on."""

    ZERO_VARIANCE = "zero_variance"
    """All its rewards are equal: every advantage is 0."""
    STALE = "stale"
    """Its oldest weights are more than `max_staleness` versions behind the learner's."""
    NO_VERDICT = "no_verdict"
    """Fewer than two of its trajectories have a scored verdict."""


class TeacherNeed(StrEnum):
    """What the learner's method needs from the teacher for a group."""

    NONE = "none"
    SAMPLED = "sampled"
    """Log-probs of the sampled tokens."""
    TEACHER_SUPPORT = "teacher_support"
    """The same, and its log-probs of its own K likeliest tokens at each position."""
    STUDENT_SUPPORT = "student_support"
    """The same, and its log-probs of the student's K likeliest tokens at each position."""


class PrivilegedSource(StrEnum):
    """What the teacher may read beside the prompt."""

    REFERENCE = "reference"
    SIBLING = "sibling"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierSpec:
    """Which check decides about a completion, and with which parameters."""

    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)
    """JSON values only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the policy is asked, and what is needed to check and to teach it."""

    id: str
    messages: tuple[Message, ...]
    reference: str
    """The answer a completion is checked against. The policy never sees it."""
    verifier: VerifierSpec
    privileged: str | None = None
    """Privileged context: what only the teacher may read. None means the reference."""
    images: tuple[str, ...] = ()
    """References (paths or URLs), never pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a group's completions are drawn."""

    num_completions: int = 8
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int = 0
    """Run seed; a trajectory's own seed also mixes its group, member and policy version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """What the learner's method asks of the stages, so that they know nothing about methods."""

    teacher: TeacherNeed = TeacherNeed.NONE
    privileged: PrivilegedSource = PrivilegedSource.REFERENCE
    reject_zero_variance: bool = True
    teacher_version: int = 0
    """Weight version that the teacher scores with."""
    num_support: int = 0
    """K support tokens for each position when `teacher` asks for a support."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A verifier's structured answer about one completion."""

    outcome: VerdictOutcome
    reward: float = 0.0
    """Meaningful only when `outcome` is SCORED."""
    reason: str = ""
    """Short words for people: what was compared, or what failed."""
    duration_s: float = 0.0
    isolation: str = ""
    """Tier and policy of the sandbox that the completion ran in; empty when it ran in none."""

    @property
    def is_scored(self) -> bool:
        """Whether the reward may be used."""
        return self.outcome is VerdictOutcome.SCORED


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherScores:
    """The teacher's view of the sampled tokens of one trajectory (T of them)."""

    teacher_version: int
    teacher_logprobs: FloatArray
    """[T] nats, given the privileged context."""
    student_logprobs: FloatArray
    """[T] nats, the same weights and engine given the plain prompt."""
    support_ids: IntArray | None = None
    """[T, K] tokens."""
    teacher_support_logprobs: FloatArray | None = None
    """[T, K] nats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSpan:
    """Tokens `start` … `end`-1 of a completion, drawn under one policy version."""

    version: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the policy wrote, and what it was answered."""

    tool: str
    """The name that it wrote; empty when it wrote none."""
    arguments: str
    """JSON text, or what stood in its place; written by the policy, so untrusted."""
    answer: str
    """As the policy read it: cut, where it was too long."""
    outcome: CallOutcome
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolTurn:
    """The tools' answers to one turn of the policy: tokens `start` … `end`-1 of a trajectory.

    They stand for the answers and the chat template around them. The policy read them and did not
    draw them. There are none where the answers did not fit: then the trajectory ends there.
    """

    start: int
    end: int
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """The record of one rollout."""

    member: int
    """Position in its group, 0 … G-1."""
    token_ids: IntArray
    """[T] all after the prompt: the policy's tokens, end tokens included, and between its turns the
    tools'."""
    rollout_logprobs: FloatArray
    """[T] nats, by the sampler at sampling time; 0 at tokens of tools."""
    text: str
    """Of the policy's last turn: what the verifier judges."""
    finish_reason: FinishReason
    min_policy_version: int
    max_policy_version: int
    spans: tuple[VersionSpan, ...] = ()
    """Which version drew which tokens, when weights changed on the way; else empty."""
    verdict: Verdict | None = None
    scores: TeacherScores | None = None
    tool_turns: tuple[ToolTurn, ...] = ()
    """In order, apart from one another."""

    @property
    def num_tokens(self) -> int:
        """T: what a forward pass reads after the prompt."""
        return int(self.token_ids.shape[0])

    @property
    def num_sampled(self) -> int:
        """Tokens that the policy drew: the only ones it learns from."""
        return self.num_tokens - sum(t.end - t.start for t in self.tool_turns)

    @property
    def sampled(self) -> BoolArray:
        """[T] True at tokens that the policy drew."""
        mask = np.ones(self.num_tokens, dtype=np.bool_)
        for turn in self.tool_turns:
            mask[turn.start : turn.end] = False
        return mask

    @property
    def num_turns(self) -> int:
        """Of the policy."""
        return 1 + sum(t.end > t.start for t in self.tool_turns)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Of all turns."""
        return tuple(call for turn in self.tool_turns for call in turn.calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Sibling trajectories of one prompt: the unit of advantage, admission and outcome."""

    run_id: str
    group_id: str
    index: int
    """Admission order within the run, from 0."""
    prompt: Prompt
    sampling: SamplingParams
    plan: GroupPlan
    required_policy_version: int
    """The sampler must hold at least these weights."""
    prompt_token_ids: IntArray | None = None
    """[P] what the policy read; set by the rollout service."""
    trajectories: tuple[Trajectory, ...] = ()
    outcome: GroupOutcome = GroupOutcome.IN_FLIGHT
    reason: str = ""
    """Reject reason or the error, once `outcome` is REJECTED or FAILED."""
    teacher_skipped: str = ""
    """Why the teacher gave no scores although the plan asked (too-long prefix, …)."""

    @property
    def texts(self) -> list[str]:
        """What the group is about, for `rlsd.telemetry.withholding`: no log may quote it."""
        prompt = self.prompt
        found = [m.content for m in prompt.messages]
        found += [prompt.reference, prompt.privileged or "", *_strings(prompt.verifier.params)]
        for trajectory in self.trajectories:
            found.append(trajectory.text)
            calls = [c for turn in trajectory.tool_turns for c in turn.calls]
            found += [text for call in calls for text in (call.arguments, call.answer)]
        return found

    @property
    def rewards(self) -> list[float | None]:
        """Reward by member; None where the verdict is missing, an error or a timeout."""
        return [
            t.verdict.reward if t.verdict is not None and t.verdict.is_scored else None
            for t in self.trajectories
        ]

    @property
    def num_tokens(self) -> int:
        """Tokens after the prompt of the whole group, those of tools included."""
        return sum(t.num_tokens for t in self.trajectories)


def _strings(value: object) -> Iterator[str]:
    """The texts within a value of JSON."""
    match value:
        case str():
            yield value
        case Mapping():
            for inner in value.values():
                yield from _strings(inner)
        case list() | tuple():
            for inner in value:
                yield from _strings(inner)


def group_id_of(index: int) -> str:
    """A group's id within its run, from its admission index."""
    return f"g{index:08d}"


def index_of(group_id: str) -> int:
    """The admission index in a group's id."""
    return int(group_id[1:])


def failure_kind(reason: str) -> str:
    """The error's type name, which is a closed set, out of `EngineError: what happened`."""
    kind = reason.partition(":")[0]
    return kind if kind.isidentifier() else "unknown"


def has_zero_variance(rewards: Sequence[float | None]) -> bool:
    """Whether all scored rewards are equal, so that every advantage is 0."""
    return len({r for r in rewards if r is not None}) <= 1


def num_scored(rewards: Sequence[float | None]) -> int:
    """How many members have a usable reward."""
    return sum(r is not None for r in rewards)
