import pytest

from rlsd.data.converters import Shape, shape_of, to_record, usual_verifier
from rlsd.data.records import RecordError

OURS = {"prompt": "2 + 2 = ?", "reference": "4"}
GSM8K = {
    "question": "Natalia sold clips to 48 friends in April, and half as many in May. How many?",
    "answer": "So 48/2 = <<48/2=24>>24 clips in May.\nIn all 48+24 = <<48+24=72>>72.\n#### 72",
}
VERL = {
    "data_source": "openai/gsm8k",
    "prompt": [{"role": "user", "content": "How many clips?"}],
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "72"},
    "extra_info": {"split": "train", "index": 0, "answer": "48 + 24 = 72\n#### 72"},
}
TRL = {"prompt": [{"role": "user", "content": "1 + 1?"}], "solution": "One and one.", "answer": "2"}


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (OURS, Shape.RLSD),
        ({"messages": [], "reference": 1}, Shape.RLSD),
        (GSM8K, Shape.GSM8K),
        (VERL, Shape.VERL),
        (TRL, Shape.TRL),
        ({"prompt": "?", "ground_truth": "2", "difficulty": 3}, Shape.TRL),
        ({"prompt": "?", "reference": "2", "answer": None}, Shape.RLSD),
    ],
)
def test_shape_is_decided_by_the_columns_with_a_value(row: dict[str, object], shape: Shape) -> None:
    assert shape_of(row) is shape


def test_unknown_columns_are_named_with_the_shapes_known() -> None:
    with pytest.raises(RecordError, match="columns 'text', 'label' fit no shape") as caught:
        shape_of({"text": "a", "label": 1})
    for shape in Shape:
        assert f"{shape} (" in str(caught.value)


def test_slip_in_a_column_that_decides_the_shape_is_named() -> None:
    with pytest.raises(RecordError, match="'refrence': did you mean 'reference'"):
        shape_of({"prompt": "?", "refrence": "1"})


def test_ambiguous_columns_are_named_with_the_shapes_that_fit() -> None:
    with pytest.raises(RecordError, match=r"fit several shapes: rlsd .*; trl .*; set data.shape"):
        shape_of(OURS | {"answer": "4"})


def test_our_own_shape_is_left_as_it_is() -> None:
    assert to_record(OURS, Shape.RLSD) is OURS


def test_gsm8k_reference_is_the_final_number_and_the_teacher_reads_the_solution() -> None:
    assert to_record(GSM8K, Shape.GSM8K) == {
        "prompt": GSM8K["question"],
        "reference": "72",
        "privileged": "So 48/2 = 24 clips in May.\nIn all 48+24 = 72.\n#### 72",
    }


@pytest.mark.parametrize(
    ("ending", "reference"),
    [
        ("#### 1,234", "1234"),
        ("#### $5.50", "5.50"),
        ("####-3\n", "-3"),
        ("#### 20%", "20"),
        ("#### .5", ".5"),
        ("#### 7.", "7"),
    ],
)
def test_gsm8k_number_is_read_in_its_usual_spellings(ending: str, reference: str) -> None:
    row = {"question": "?", "answer": f"So:\n{ending}"}
    assert to_record(row, Shape.GSM8K)["reference"] == reference


@pytest.mark.parametrize("answer", ["72", "#### seventy", "#### 72 clips", "#### 1\nor 2"])
def test_gsm8k_answer_without_a_final_number_is_refused(answer: str) -> None:
    with pytest.raises(RecordError, match="does not end in '#### <number>'"):
        to_record({"question": "?", "answer": answer}, Shape.GSM8K)


def test_verl_row_keeps_messages_ground_truth_and_solution() -> None:
    assert to_record(VERL, Shape.VERL) == {
        "messages": VERL["prompt"],
        "reference": "72",
        "privileged": "48 + 24 = 72\n#### 72",
    }


def test_verl_row_without_a_solution_leaves_the_teacher_the_reference() -> None:
    row = VERL | {"extra_info": {"index": 0, "answer": None}}
    assert "privileged" not in to_record(row, Shape.VERL)


def test_verl_row_without_a_ground_truth_is_refused() -> None:
    with pytest.raises(RecordError, match=r"'reward_model\.ground_truth' is missing"):
        to_record(VERL | {"reward_model": {"style": "rule"}}, Shape.VERL)


def test_trl_reference_is_the_answer_and_the_teacher_reads_the_solution() -> None:
    assert to_record(TRL, Shape.TRL) == {
        "messages": TRL["prompt"],
        "reference": "2",
        "privileged": "One and one.",
    }


def test_trl_solution_alone_is_the_reference() -> None:
    row = {"prompt": "1 + 1?", "solution": "$2$", "image": "a.png"}
    expected = {"prompt": "1 + 1?", "reference": "$2$", "images": ["a.png"]}
    assert to_record(row, Shape.TRL) == expected


@pytest.mark.parametrize("shape", [Shape.GSM8K, Shape.VERL, Shape.TRL])
@pytest.mark.parametrize("row", [{}, {"question": 1, "answer": 2}, {"prompt": "?"}])
def test_forced_shape_that_does_not_fit_is_refused(row: dict[str, object], shape: Shape) -> None:
    with pytest.raises(RecordError):
        to_record(row, shape)


def test_usual_verifier_is_mathematics_where_the_row_says_so() -> None:
    assert usual_verifier(GSM8K, Shape.GSM8K) == "math"
    assert usual_verifier(VERL, Shape.VERL) == "math"
    assert usual_verifier({"data_source": "aime2025"}, Shape.VERL) == "math"
    assert usual_verifier({"data_source": "codecontests"}, Shape.VERL) is None
    assert usual_verifier(TRL, Shape.TRL) is None
