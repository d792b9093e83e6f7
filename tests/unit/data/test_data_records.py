from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsd.data.records import KEYS, RecordError, parse_record
from rlsd.trajectory import Message, Prompt, VerifierSpec
from rlsd.wire.convert import spec_from_proto, spec_to_proto

GOOD = {"prompt": "2 + 2 = ?", "reference": "4", "verifier": {"kind": "exact"}}

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
NEAR_RECORDS = st.dictionaries(st.sampled_from(KEYS), JSON | st.text(min_size=1), max_size=7)


def parse(**changes: object) -> Prompt:
    return parse_record(GOOD | changes, default_id="train:7", default_verifier=None)


def reason(**changes: object) -> str:
    with pytest.raises(RecordError) as caught:
        parse(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_record_becomes_a_prompt_with_every_part() -> None:
    prompt = parse(
        id="p1",
        privileged="two and two",
        verifier={"kind": "exact", "params": {"after": "#"}},
        images=["a.png"],
    )
    assert prompt == Prompt(
        id="p1",
        messages=(Message(role="user", content="2 + 2 = ?"),),
        reference="4",
        privileged="two and two",
        verifier=VerifierSpec(kind="exact", params={"after": "#"}),
        images=("a.png",),
    )


def test_optional_keys_have_defaults_and_null_counts_as_left_out() -> None:
    prompt = parse(id=None, privileged=None, images=None, messages=None)
    assert (prompt.id, prompt.privileged, prompt.images) == ("train:7", None, ())


def test_messages_are_kept_in_order() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    prompt = parse(prompt=None, messages=turns)
    assert [m.role for m in prompt.messages] == ["system", "user"]


def test_default_verifier_serves_only_records_that_name_none() -> None:
    bare = {"prompt": "?", "reference": "1"}
    assert parse_record(bare, default_id="a", default_verifier="math").verifier.kind == "math"
    assert parse_record(GOOD, default_id="a", default_verifier="math").verifier.kind == "exact"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (42, "42"),
        (42.0, "42"),
        (-0.5, "-0.5"),
        (1e300, "1e+300"),
        (Decimal("1.50"), "1.50"),
        (10**400, "1" + "0" * 400),
    ],
)
def test_reference_number_becomes_text(number: object, text: str) -> None:
    assert parse(reference=number).reference == text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"priviledged": "x"}, "unknown key 'priviledged'; did you mean 'privileged'?"),
        ({"zzz": 1}, "unknown key 'zzz'; known keys: prompt, messages"),
        ({"prompt": None}, "'prompt' is missing; add it"),
        ({"reference": None}, "'reference' is missing; add"),
        ({"verifier": None}, "no verifier; add 'verifier': {'kind': ...} or set data.verifier"),
        ({"messages": []}, "both 'prompt' and 'messages'"),
        ({"prompt": ["a"]}, "give a list of messages as 'messages'"),
        ({"prompt": " "}, "'prompt' is empty"),
        ({"prompt": 3}, "'prompt' must be text, not int"),
        ({"prompt": "\ud83d"}, "'prompt' has half of a surrogate pair"),
        ({"reference": True}, "'reference' must be text or a number, not bool"),
        ({"reference": ""}, "'reference' is empty"),
        ({"reference": float("nan")}, "'reference' must be a finite number"),
        ({"reference": Decimal("sNaN")}, "'reference' must be a finite number"),
        ({"reference": ["4"]}, "not list"),
        ({"privileged": ""}, "'privileged' is empty"),
        ({"id": 3}, "'id' must be text"),
        ({"images": "a.png"}, "'images' must be a list"),
        ({"images": [b"\x89PNG"]}, "give their paths"),
        ({"verifier": "exact"}, "'verifier' must be a JSON object"),
        ({"verifier": {}}, "'verifier.kind' is missing"),
        ({"verifier": {"kind": "a", "parms": {}}}, "did you mean 'params'?"),
    ],
)
def test_bad_record_is_refused_with_the_key_and_the_remedy(
    changes: dict[str, object], expected: str
) -> None:
    assert expected in reason(**changes)


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([], "at least one message"),
        (["hi"], "'messages[0]' must be a JSON object"),
        ([{"role": "human", "content": "hi"}], "system, user, assistant; got 'human'"),
        ([{"role": "user"}], "'messages[0].content' is missing"),
        ([{"role": "user", "content": "a", "contnt": "b"}], "did you mean 'content'?"),
        ([{"role": "assistant", "content": "a"}], "the last message must be the user's"),
    ],
)
def test_bad_messages_are_refused_with_their_place(turns: object, expected: str) -> None:
    assert expected in reason(prompt=None, messages=turns)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**53 + 1, "write it as text"),
        (float("inf"), "must be a finite number"),
        ({"a": [b"x"]}, "params.'p'.'a'[0]' must be JSON"),
        ("\udc00", "must be JSON"),
    ],
)
def test_params_that_the_wire_would_change_are_refused(value: object, expected: str) -> None:
    assert expected in reason(verifier={"kind": "a", "params": {"p": value}})


def test_params_nested_too_deep_are_refused() -> None:
    nested: object = 1
    for _ in range(50):
        nested = [nested]
    assert "nested deeper" in reason(verifier={"kind": "a", "params": {"p": nested}})


def test_accepted_params_survive_the_wire_unchanged() -> None:
    params = {"n": 2**53, "x": 0.5, "ok": True, "tests": [{"in": "1", "out": None}], "t": "é"}
    spec = parse(verifier={"kind": "code", "params": params}).verifier
    assert spec_from_proto(spec_to_proto(spec)) == spec


@given(values=JSON | NEAR_RECORDS | NEAR_RECORDS.map(lambda changes: GOOD | changes))
def test_any_json_value_is_either_a_prompt_or_a_record_error(values: object) -> None:
    try:
        prompt = parse_record(values, default_id="a", default_verifier="exact")
    except RecordError:
        return
    assert prompt.messages[-1].role == "user"
    assert prompt.reference
