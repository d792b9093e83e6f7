import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from rlsd.data.sources import load_prompts
from rlsd.errors import ConfigError
from rlsd.trajectory import VerifierSpec

Record = dict[str, Any]


def record(number: int = 1) -> Record:
    return {"prompt": f"{number} + 1?", "reference": number + 1, "verifier": {"kind": "math"}}


def write(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def refusal(source: str | Path, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_prompts(source, **options)
    assert str(source) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_records_are_kept_in_order_with_ids_from_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, record(1), record(2) | {"id": "mine"}, record(3))
    dataset = load_prompts(path)
    assert [p.id for p in dataset.prompts] == ["train:1", "mine", "train:3"]
    assert [p.reference for p in dataset.prompts] == ["2", "3", "4"]
    assert dataset.summary == f"{path}: 3 prompts"


def test_few_bad_records_are_counted_with_place_and_reason(tmp_path: Path) -> None:
    lines: list[object] = [record(i) for i in range(199)]
    path = write(tmp_path, *lines, record() | {"privleged": "x"})
    dataset = load_prompts(path)
    assert dataset.num_kept == 199
    assert dataset.summary == (
        f"{path}: 199 prompts, 1 records rejected: {path}:200: "
        "unknown key 'privleged'; did you mean 'privileged'?"
    )


def test_too_many_bad_records_stop_the_load_with_the_first_reasons(tmp_path: Path) -> None:
    path = write(tmp_path, record(), *[{"prompt": "?", "refrence": "1"}] * 5)
    message = refusal(path)
    assert "5 of 6 records cannot be used (allowed: 1%); correct or remove them" in message
    assert [f"{path}:{line}:" in message for line in (2, 3, 4, 5)] == [True, True, True, False]
    assert "did you mean 'reference'?" in message


def test_larger_share_of_bad_records_can_be_allowed_but_not_all(tmp_path: Path) -> None:
    path = write(tmp_path, record(), 3)
    assert load_prompts(path, max_bad_share=0.5).num_kept == 1
    assert "1 of 1 records" in refusal(write(tmp_path, 3), max_bad_share=1.0)


def test_repeated_id_is_rejected_with_the_line_it_repeats(tmp_path: Path) -> None:
    path = write(tmp_path, record(1) | {"id": "a"}, record(2), record(3) | {"id": "a"})
    (rejection,) = load_prompts(path, max_bad_share=0.5).rejected
    assert str(rejection) == f"{path}:3: id 'a' is that of line 1; make it unique"


def test_source_without_records_is_refused(tmp_path: Path) -> None:
    assert "no records; write at least one" in refusal(write(tmp_path))


def test_limit_counts_good_records_and_reads_no_further(tmp_path: Path) -> None:
    path = write(tmp_path, record(1), "junk", record(2), record(3), "junk", "junk")
    dataset = load_prompts(path, limit=2, max_bad_share=0.5)
    assert [p.id for p in dataset.prompts] == ["train:1", "train:3"]
    assert len(dataset.rejected) == 1


def test_users_verifier_comes_before_the_one_a_shape_implies(tmp_path: Path) -> None:
    path = write(tmp_path, {"question": "1 + 1?", "answer": "#### 2"})
    assert load_prompts(path).prompts[0].verifier.kind == "math"
    assert load_prompts(path, default_verifier="http").prompts[0].verifier.kind == "http"


def test_forced_shape_settles_ambiguous_columns(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "1 + 1?", "reference": "x", "answer": "2"})
    assert "fit several shapes" in refusal(path, default_verifier="math")
    dataset = load_prompts(path, default_verifier="math", shape="trl")
    assert dataset.prompts[0].reference == "2"


def test_reason_of_a_converted_record_names_the_shape_it_was_read_as(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "?", "answer": ["a", "b"]})
    assert "read as trl: 'reference' must be text" in refusal(path, default_verifier="math")


def test_unknown_shape_names_the_known_ones(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, record()), shape="alpaca")
    assert "unknown shape 'alpaca'; known shapes: auto, rlsd, gsm8k, verl, trl" in message


def test_parquet_of_verl_is_loaded(tmp_path: Path) -> None:
    rows = [
        {
            "data_source": "openai/gsm8k",
            "prompt": [{"role": "user", "content": f"{i} + 1?"}],
            "reward_model": {"style": "rule", "ground_truth": str(i + 1)},
            "extra_info": {"index": i, "answer": f"{i} and one.\n#### {i + 1}"},
        }
        for i in range(3)
    ]
    path = tmp_path / "train.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    dataset = load_prompts(path)
    assert [p.reference for p in dataset.prompts] == ["1", "2", "3"]
    assert dataset.prompts[0].privileged == "0 and one.\n#### 1"
    assert dataset.prompts[0].verifier == VerifierSpec(kind="math")


def test_parquet_columns_that_only_some_records_use_count_as_left_out(tmp_path: Path) -> None:
    rows = [
        record(1) | {"verifier": {"kind": "exact", "params": {"after": "#"}}, "privileged": None},
        record(2) | {"verifier": {"kind": "math", "params": {"digits": 2}}, "privileged": "x"},
    ]
    path = tmp_path / "train.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    first, second = load_prompts(path).prompts
    assert (first.verifier.params, first.privileged) == ({"after": "#"}, None)
    assert (second.verifier.params, second.privileged) == ({"digits": 2}, "x")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
COLUMNS = st.sampled_from(["prompt", "messages", "answer", "question", "reward_model", "verifier"])
JUNK = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(COLUMNS | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(junk=JUNK)
def test_any_junk_line_is_a_prompt_or_a_counted_rejection(
    tmp_path_factory: pytest.TempPathFactory, junk: object
) -> None:
    path = write(tmp_path_factory.getbasetemp(), record(), junk)
    dataset = load_prompts(path, default_verifier="exact", max_bad_share=1.0)
    assert dataset.num_kept + len(dataset.rejected) == 2
    assert dataset.prompts[0].id == "train:1"


@given(junk=st.binary(max_size=60))
def test_any_bytes_after_a_good_line_leave_the_good_line(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    path.write_bytes(json.dumps(record()).encode() + b"\n" + junk)
    assert load_prompts(path, max_bad_share=1.0).prompts[0].id == "bytes:1"
