import numpy as np
import pytest
from builders import make_group, make_scores, make_trajectory
from hypothesis import given
from hypothesis import strategies as st

from rlsd.errors import ServiceError
from rlsd.trajectory import CallOutcome, Group, GroupOutcome, ToolCall, ToolTurn, VerifierSpec
from rlsd.wire.convert import (
    array_from_proto,
    array_to_proto,
    decode,
    encode,
    encode_failed,
    spec_from_proto,
    spec_to_proto,
)
from rlsd.wire.v1 import trajectory_pb2 as pb


def assert_same(left: Group, right: Group) -> None:
    assert repr(left) == repr(right)


def test_a_group_survives_the_wire_with_scores_and_support():
    trajectory = make_trajectory(scores=make_scores(3, support=4, version=7))
    group = make_group(trajectories=(trajectory,), outcome=GroupOutcome.REJECTED, reason="stale")
    assert_same(decode(encode(group)), group)


def test_an_unset_privileged_context_is_not_an_empty_one():
    group = make_group()
    for privileged in (None, ""):
        changed = group.prompt.__class__(**{**_fields(group.prompt), "privileged": privileged})
        travelled = decode(encode(make_group(prompt=changed)))
        assert travelled.prompt.privileged == privileged


def _fields(prompt):
    return {name: getattr(prompt, name) for name in prompt.__slots__}


def test_verifier_params_keep_whole_numbers_whole_at_any_depth():
    deep: dict = {"n": 2**63 + 1}
    for _ in range(300):
        deep = {"deep": deep}
    params = {"n": 3, "x": 0.5, "list": [1, 2.5, deep], "flag": True, "none": None}
    spec = spec_from_proto(spec_to_proto(VerifierSpec(kind="k", params=params)))
    assert spec.params == params
    assert isinstance(spec.params["n"], int)


@pytest.mark.parametrize("params", ["[1]", "{", "[" * 100_000])
def test_verifier_params_that_are_no_object_are_refused(params):
    with pytest.raises(ServiceError, match=r"verifier\.params_json"):
        spec_from_proto(pb.VerifierSpec(kind="k", params_json=params))


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20))
def test_arrays_travel_to_the_bit(values):
    array = np.asarray(values, dtype=np.int32)
    assert np.array_equal(array_from_proto(array_to_proto(array), np.int32), array)


def test_nan_and_infinity_travel_to_the_bit():
    array = np.asarray([np.nan, np.inf, -np.inf, -0.0], dtype=np.float32)
    assert array_from_proto(array_to_proto(array), np.float32).tobytes() == array.tobytes()


def test_an_array_of_another_dtype_than_agreed_is_refused():
    message = array_to_proto(np.zeros(3, dtype=np.float64))
    with pytest.raises(ServiceError, match="'float64' received where 'float32'"):
        array_from_proto(message, np.float32)


def test_an_array_whose_bytes_do_not_fit_its_shape_is_refused():
    message = array_to_proto(np.zeros(3, dtype=np.float32))
    message.shape[0] = 5
    with pytest.raises(ServiceError, match=r"shape \[5\] has 12 bytes"):
        array_from_proto(message, np.float32)


def test_bytes_that_are_no_group_are_refused_in_one_line():
    with pytest.raises(ServiceError, match="not a Group"):
        decode(b"\xff\xff\xff")


def test_a_failed_group_keeps_what_can_be_read():
    failed = decode(encode_failed(encode(make_group(index=5)), "g00000005", "EngineError: x"))
    assert (failed.outcome, failed.reason, failed.index) == (
        GroupOutcome.FAILED,
        "EngineError: x",
        5,
    )


def test_a_failed_group_that_cannot_be_read_keeps_its_id_and_index():
    failed = decode(encode_failed(b"\xff\xff", "g00000012", "ServiceError: broken"))
    assert (failed.group_id, failed.index) == ("g00000012", 12)
    assert failed.outcome is GroupOutcome.FAILED


def _with_turns(*turns: ToolTurn) -> Group:
    return make_group(trajectories=(make_trajectory(length=6, tool_turns=turns),))


def test_the_turns_of_tools_survive_the_wire():
    call = ToolCall(
        tool="lookup",
        arguments='{"key": "ä"}',
        answer="7",
        outcome=CallOutcome.REFUSED,
        duration_s=0.25,
    )
    group = _with_turns(
        ToolTurn(start=1, end=3, calls=(call, call)), ToolTurn(start=4, end=6, calls=())
    )
    assert_same(decode(encode(group)), group)


@pytest.mark.parametrize("places", [[(1, 7)], [(3, 2)], [(-1, 2)], [(1, 3), (2, 4)]])
def test_turns_of_tools_that_do_not_lie_in_the_tokens_are_refused(places):
    turns = [ToolTurn(start=start, end=end, calls=()) for start, end in places]
    with pytest.raises(ServiceError, match="tool turn"):
        decode(encode(_with_turns(*turns)))
