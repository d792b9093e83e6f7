"""Between protobuf messages and our dataclasses: the only translator.

Arrays travel as bytes + dtype + shape: 7 to 33 times faster from Python than repeated floats.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf import message

from rlsd import trajectory as t
from rlsd.errors import ServiceError
from rlsd.telemetry.activity import Snapshot, State
from rlsd.wire.v1 import activity_pb2
from rlsd.wire.v1 import trajectory_pb2 as pb

_Scalar = TypeVar("_Scalar", bound=np.generic)

_TEACHER_NEED = {
    t.TeacherNeed.NONE: pb.TEACHER_NEED_NONE,
    t.TeacherNeed.SAMPLED: pb.TEACHER_NEED_SAMPLED,
    t.TeacherNeed.TEACHER_SUPPORT: pb.TEACHER_NEED_TEACHER_SUPPORT,
    t.TeacherNeed.STUDENT_SUPPORT: pb.TEACHER_NEED_STUDENT_SUPPORT,
}
_PRIVILEGED_SOURCE = {
    t.PrivilegedSource.REFERENCE: pb.PRIVILEGED_SOURCE_REFERENCE,
    t.PrivilegedSource.SIBLING: pb.PRIVILEGED_SOURCE_SIBLING,
    t.PrivilegedSource.NONE: pb.PRIVILEGED_SOURCE_NONE,
}
_VERDICT_OUTCOME = {
    t.VerdictOutcome.SCORED: pb.VERDICT_OUTCOME_SCORED,
    t.VerdictOutcome.ERROR: pb.VERDICT_OUTCOME_ERROR,
    t.VerdictOutcome.TIMEOUT: pb.VERDICT_OUTCOME_TIMEOUT,
}
_FINISH_REASON = {
    t.FinishReason.STOP: pb.FINISH_REASON_STOP,
    t.FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    t.FinishReason.TURNS: pb.FINISH_REASON_TURNS,
}
_CALL_OUTCOME = {
    t.CallOutcome.ANSWERED: pb.CALL_OUTCOME_ANSWERED,
    t.CallOutcome.REFUSED: pb.CALL_OUTCOME_REFUSED,
    t.CallOutcome.MALFORMED: pb.CALL_OUTCOME_MALFORMED,
    t.CallOutcome.UNKNOWN: pb.CALL_OUTCOME_UNKNOWN,
}
_GROUP_OUTCOME = {
    t.GroupOutcome.IN_FLIGHT: pb.GROUP_OUTCOME_IN_FLIGHT,
    t.GroupOutcome.TRAINED: pb.GROUP_OUTCOME_TRAINED,
    t.GroupOutcome.REJECTED: pb.GROUP_OUTCOME_REJECTED,
    t.GroupOutcome.FAILED: pb.GROUP_OUTCOME_FAILED,
}

_ACTIVITY_STATE = {
    State.STARTING: activity_pb2.ACTIVITY_STATE_STARTING,
    State.BUSY: activity_pb2.ACTIVITY_STATE_BUSY,
    State.WAITING_FOR_WORK: activity_pb2.ACTIVITY_STATE_WAITING_FOR_WORK,
    State.WAITING_FOR_WEIGHTS: activity_pb2.ACTIVITY_STATE_WAITING_FOR_WEIGHTS,
    State.WAITING_FOR_QUEUES: activity_pb2.ACTIVITY_STATE_WAITING_FOR_QUEUES,
    State.WAITING_FOR_SERVICE: activity_pb2.ACTIVITY_STATE_WAITING_FOR_SERVICE,
    State.CHECKPOINTING: activity_pb2.ACTIVITY_STATE_CHECKPOINTING,
    State.STOPPING: activity_pb2.ACTIVITY_STATE_STOPPING,
}


def encode(group: t.Group) -> bytes:
    """A group as the bytes that a stream entry and the batch log carry."""
    return group_to_proto(group).SerializeToString()


def decode(payload: bytes) -> t.Group:
    """The group in `payload`.

    Raises:
        ServiceError: the bytes are not a group, or one that breaks the contract.
    """
    received = pb.Group()
    try:
        received.ParseFromString(payload)
    except message.DecodeError as cause:
        raise ServiceError(
            f"stream entry of {len(payload)} bytes is not a Group: {cause}"
        ) from cause
    return group_from_proto(received)


def encode_failed(payload: bytes, group_id: str, reason: str) -> bytes:
    """The group of `payload` marked failed; one that cannot be read keeps only its id."""
    try:
        group = decode(payload)
    except ServiceError:
        group = t.Group(
            run_id="",
            group_id=group_id,
            index=t.index_of(group_id),
            prompt=t.Prompt(id="", messages=(), reference="", verifier=t.VerifierSpec(kind="")),
            sampling=t.SamplingParams(),
            plan=t.GroupPlan(),
            required_policy_version=0,
        )
    return encode(replace(group, outcome=t.GroupOutcome.FAILED, reason=reason))


def array_to_proto(array: npt.NDArray[Any]) -> pb.Array:
    """Little-endian bytes in C order, with dtype and shape."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return pb.Array(data=little.tobytes(), dtype=array.dtype.name, shape=array.shape)


def array_from_proto(array: pb.Array, expected: type[_Scalar]) -> npt.NDArray[_Scalar]:
    """A read-only view of the bytes.

    Raises:
        ServiceError: another dtype than `expected`, or a byte count that does not fit the shape.
    """
    dtype = np.dtype(expected)
    if array.dtype != dtype.name:
        raise ServiceError(f"array of {array.dtype!r} received where {dtype.name!r} is agreed")
    count = int(np.prod(array.shape, dtype=np.int64)) if array.shape else 1
    if len(array.data) != count * dtype.itemsize:
        raise ServiceError(f"array of shape {list(array.shape)} has {len(array.data)} bytes")
    flat = np.frombuffer(array.data, dtype=dtype.newbyteorder("<"))
    return flat.reshape(tuple(array.shape))


def group_to_proto(group: t.Group) -> pb.Group:
    """The message of a group."""
    return pb.Group(
        run_id=group.run_id,
        group_id=group.group_id,
        index=group.index,
        prompt=_prompt_to_proto(group.prompt),
        sampling=pb.SamplingParams(
            num_completions=group.sampling.num_completions,
            temperature=group.sampling.temperature,
            top_p=group.sampling.top_p,
            max_tokens=group.sampling.max_tokens,
            seed=group.sampling.seed,
        ),
        plan=pb.GroupPlan(
            teacher=_TEACHER_NEED[group.plan.teacher],
            privileged=_PRIVILEGED_SOURCE[group.plan.privileged],
            reject_zero_variance=group.plan.reject_zero_variance,
            teacher_version=group.plan.teacher_version,
            num_support=group.plan.num_support,
        ),
        required_policy_version=group.required_policy_version,
        prompt_token_ids=_optional_array(group.prompt_token_ids),
        trajectories=[_trajectory_to_proto(x) for x in group.trajectories],
        outcome=_GROUP_OUTCOME[group.outcome],
        reason=group.reason,
        teacher_skipped=group.teacher_skipped,
    )


def group_from_proto(group: pb.Group) -> t.Group:
    """The group of a message; raises ServiceError when it breaks the contract."""
    return t.Group(
        run_id=group.run_id,
        group_id=group.group_id,
        index=group.index,
        prompt=_prompt_from_proto(group.prompt),
        sampling=t.SamplingParams(
            num_completions=group.sampling.num_completions,
            temperature=group.sampling.temperature,
            top_p=group.sampling.top_p,
            max_tokens=group.sampling.max_tokens,
            seed=group.sampling.seed,
        ),
        plan=t.GroupPlan(
            teacher=_named(_TEACHER_NEED, group.plan.teacher, "plan.teacher"),
            privileged=_named(_PRIVILEGED_SOURCE, group.plan.privileged, "plan.privileged"),
            reject_zero_variance=group.plan.reject_zero_variance,
            teacher_version=group.plan.teacher_version,
            num_support=group.plan.num_support,
        ),
        required_policy_version=group.required_policy_version,
        prompt_token_ids=array_from_proto(group.prompt_token_ids, np.int32)
        if group.HasField("prompt_token_ids")
        else None,
        trajectories=tuple(_trajectory_from_proto(x) for x in group.trajectories),
        outcome=_named(_GROUP_OUTCOME, group.outcome, "outcome"),
        reason=group.reason,
        teacher_skipped=group.teacher_skipped,
    )


def spec_to_proto(spec: t.VerifierSpec) -> pb.VerifierSpec:
    """The message of a verifier's kind and parameters."""
    return pb.VerifierSpec(kind=spec.kind, params_json=json.dumps(dict(spec.params)))


def spec_from_proto(spec: pb.VerifierSpec) -> t.VerifierSpec:
    """Kind and parameters; raises ServiceError when they are no JSON object."""
    try:
        params = json.loads(spec.params_json or "{}")
    except (ValueError, RecursionError) as cause:
        raise ServiceError(f"message has verifier.params_json that is not JSON: {cause}") from cause
    if not isinstance(params, dict):
        raise ServiceError("message has verifier.params_json that is no object")
    return t.VerifierSpec(kind=spec.kind, params=params)


def verdict_to_proto(verdict: t.Verdict) -> pb.Verdict:
    """The message of a verdict."""
    return pb.Verdict(
        outcome=_VERDICT_OUTCOME[verdict.outcome],
        reward=verdict.reward,
        reason=verdict.reason,
        duration_s=verdict.duration_s,
        isolation=verdict.isolation,
    )


def verdict_from_proto(verdict: pb.Verdict) -> t.Verdict:
    """The verdict of a message."""
    return t.Verdict(
        outcome=_named(_VERDICT_OUTCOME, verdict.outcome, "verdict.outcome"),
        reward=verdict.reward,
        reason=verdict.reason,
        duration_s=verdict.duration_s,
        isolation=verdict.isolation,
    )


def activity_to_proto(activity: Snapshot) -> activity_pb2.Activity:
    """What a service says of itself as a message."""
    return activity_pb2.Activity(
        state=_ACTIVITY_STATE[activity.state],
        detail=activity.detail,
        for_s=activity.for_s,
        progress_age_s=activity.progress_age_s,
        stalled=activity.stalled,
    )


def activity_from_proto(activity: activity_pb2.Activity) -> Snapshot:
    """A message as what a service says of itself.

    Raises:
        ServiceError: it is in a state that this release does not know.
    """
    return Snapshot(
        state=_named(_ACTIVITY_STATE, activity.state, "activity.state"),
        detail=activity.detail,
        for_s=activity.for_s,
        progress_age_s=activity.progress_age_s,
        stalled=activity.stalled,
    )


def _prompt_to_proto(prompt: t.Prompt) -> pb.Prompt:
    return pb.Prompt(
        id=prompt.id,
        messages=[pb.Message(role=m.role, content=m.content) for m in prompt.messages],
        reference=prompt.reference,
        verifier=spec_to_proto(prompt.verifier),
        privileged=prompt.privileged,
        images=prompt.images,
    )


def _prompt_from_proto(prompt: pb.Prompt) -> t.Prompt:
    return t.Prompt(
        id=prompt.id,
        messages=tuple(t.Message(role=m.role, content=m.content) for m in prompt.messages),
        reference=prompt.reference,
        verifier=spec_from_proto(prompt.verifier),
        privileged=prompt.privileged if prompt.HasField("privileged") else None,
        images=tuple(prompt.images),
    )


def _trajectory_to_proto(trajectory: t.Trajectory) -> pb.Trajectory:
    return pb.Trajectory(
        member=trajectory.member,
        token_ids=array_to_proto(trajectory.token_ids),
        rollout_logprobs=array_to_proto(trajectory.rollout_logprobs),
        text=trajectory.text,
        finish_reason=_FINISH_REASON[trajectory.finish_reason],
        min_policy_version=trajectory.min_policy_version,
        max_policy_version=trajectory.max_policy_version,
        spans=[
            pb.VersionSpan(version=s.version, start=s.start, end=s.end) for s in trajectory.spans
        ],
        verdict=None if trajectory.verdict is None else verdict_to_proto(trajectory.verdict),
        scores=None if trajectory.scores is None else _scores_to_proto(trajectory.scores),
        tool_turns=[_tool_turn_to_proto(turn) for turn in trajectory.tool_turns],
    )


def _trajectory_from_proto(trajectory: pb.Trajectory) -> t.Trajectory:
    return t.Trajectory(
        member=trajectory.member,
        token_ids=array_from_proto(trajectory.token_ids, np.int32),
        rollout_logprobs=array_from_proto(trajectory.rollout_logprobs, np.float32),
        text=trajectory.text,
        finish_reason=_named(_FINISH_REASON, trajectory.finish_reason, "finish_reason"),
        min_policy_version=trajectory.min_policy_version,
        max_policy_version=trajectory.max_policy_version,
        spans=tuple(
            t.VersionSpan(version=s.version, start=s.start, end=s.end) for s in trajectory.spans
        ),
        verdict=verdict_from_proto(trajectory.verdict) if trajectory.HasField("verdict") else None,
        scores=_scores_from_proto(trajectory.scores) if trajectory.HasField("scores") else None,
        tool_turns=_tool_turns_from_proto(trajectory),
    )


def _tool_turn_to_proto(turn: t.ToolTurn) -> pb.ToolTurn:
    return pb.ToolTurn(
        start=turn.start,
        end=turn.end,
        calls=[
            pb.ToolCall(
                tool=call.tool,
                arguments=call.arguments,
                answer=call.answer,
                outcome=_CALL_OUTCOME[call.outcome],
                duration_s=call.duration_s,
            )
            for call in turn.calls
        ],
    )


def _tool_turns_from_proto(trajectory: pb.Trajectory) -> tuple[t.ToolTurn, ...]:
    """Turns in order and within the tokens: whoever sent others would have the wrong ones learned.

    Raises:
        ServiceError: they are not.
    """
    num_tokens, end = sum(trajectory.token_ids.shape[:1]), 0
    for turn in trajectory.tool_turns:
        if not end <= turn.start <= turn.end <= num_tokens:
            raise ServiceError(
                f"message has a tool turn {turn.start} … {turn.end} that does not lie within the "
                f"{num_tokens} tokens after the one before"
            )
        end = turn.end
    return tuple(
        t.ToolTurn(
            start=turn.start,
            end=turn.end,
            calls=tuple(
                t.ToolCall(
                    tool=call.tool,
                    arguments=call.arguments,
                    answer=call.answer,
                    outcome=_named(_CALL_OUTCOME, call.outcome, "tool_turns.calls.outcome"),
                    duration_s=call.duration_s,
                )
                for call in turn.calls
            ),
        )
        for turn in trajectory.tool_turns
    )


def _scores_to_proto(scores: t.TeacherScores) -> pb.TeacherScores:
    return pb.TeacherScores(
        teacher_version=scores.teacher_version,
        teacher_logprobs=array_to_proto(scores.teacher_logprobs),
        student_logprobs=array_to_proto(scores.student_logprobs),
        support_ids=_optional_array(scores.support_ids),
        teacher_support_logprobs=_optional_array(scores.teacher_support_logprobs),
    )


def _scores_from_proto(scores: pb.TeacherScores) -> t.TeacherScores:
    has_support = scores.HasField("support_ids")
    return t.TeacherScores(
        teacher_version=scores.teacher_version,
        teacher_logprobs=array_from_proto(scores.teacher_logprobs, np.float32),
        student_logprobs=array_from_proto(scores.student_logprobs, np.float32),
        support_ids=array_from_proto(scores.support_ids, np.int32) if has_support else None,
        teacher_support_logprobs=array_from_proto(scores.teacher_support_logprobs, np.float32)
        if has_support
        else None,
    )


def _optional_array(array: npt.NDArray[Any] | None) -> pb.Array | None:
    return None if array is None else array_to_proto(array)


def _named(names: dict[Any, Any], number: Any, field: str) -> Any:
    for name, value in names.items():
        if value == number:
            return name
    raise ServiceError(f"message has {field} = {number}, which this release does not know")
