import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from rlsd.data.files import MAX_LINE_BYTES, file_rows
from rlsd.data.rows import LocatedRow, Rejection
from rlsd.errors import ConfigError


def jsonl(tmp_path: Path, content: bytes) -> list[LocatedRow | Rejection]:
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    return list(file_rows(path))


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        list(file_rows(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_jsonl_rows_carry_their_line_and_blank_lines_count(tmp_path: Path) -> None:
    rows = jsonl(tmp_path, b'{"a": 1}\n\n  \r\n{"a": 2}')
    assert [(r.line, r.values) for r in rows if isinstance(r, LocatedRow)] == [
        (1, {"a": 1}),
        (4, {"a": 2}),
    ]


def test_jsonl_tolerates_byte_order_marks_and_line_separators_in_text(tmp_path: Path) -> None:
    bom = b"\xef\xbb\xbf"
    rows = jsonl(tmp_path, bom + '{"a": "x\u2028y"}\n'.encode() + bom)
    assert [r.values for r in rows if isinstance(r, LocatedRow)] == [{"a": "x\u2028y"}]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{", "not JSON (Expecting property name"),
        (b'{"a": 1} {"b": 2}', "not JSON (Extra data, column 10); write one JSON object a line"),
        (b'{"a": "\xff"}', "not UTF-8 (byte 0xff); save the file as UTF-8"),
        (b"[" * 200_000, "nested too deep"),
        (b"1" * 5_000, "a number too long"),
    ],
)
def test_bad_jsonl_line_is_a_rejection_with_its_place(
    tmp_path: Path, line: bytes, expected: str
) -> None:
    good, bad, after = jsonl(tmp_path, b"{}\n" + line + b"\n{}\n")
    assert isinstance(bad, Rejection)
    assert str(bad) == f"{tmp_path / 'train.jsonl'}:2: {bad.reason}"
    assert expected in bad.reason
    assert isinstance(good, LocatedRow)
    assert isinstance(after, LocatedRow)


def test_line_beyond_the_limit_is_rejected_and_the_next_one_read(tmp_path: Path) -> None:
    long, after = jsonl(tmp_path, b"x" * (2 * MAX_LINE_BYTES + 5) + b"\n{}\n")
    assert isinstance(long, Rejection)
    assert f"longer than {MAX_LINE_BYTES} bytes" in long.reason
    assert after == LocatedRow(file=str(tmp_path / "train.jsonl"), line=2, values={})


def test_jsonl_file_is_closed_when_reading_stops_early(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("{}\n{}\n")
    rows = file_rows(path)
    next(rows)
    rows.close()  # an open file would warn, and warnings are errors
    assert list(rows) == []


def test_json_array_rows_carry_their_number(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps([{"a": 1}, 3]), encoding="utf-8-sig")
    assert [(r.line, r.values) for r in file_rows(path) if isinstance(r, LocatedRow)] == [
        (1, {"a": 1}),
        (2, 3),
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", b'{"a": 1}', "not an array; write [record, ...] or use .jsonl"),
        ("a.json", b"{}\n{}", "a file with one object a line is named .jsonl"),
        ("a.json", b"\xff\xfe", "not UTF-8; save the file as UTF-8"),
        ("a.parquet", b"not parquet", "give a readable .parquet file"),
        ("a.csv", b"", "unknown kind of source; give a .jsonl, .json, .parquet file"),
    ],
)
def test_file_that_cannot_be_read_is_refused_with_the_remedy(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert expected in refusal(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_missing_file_is_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    assert "there is no such file; correct the path" in refusal(tmp_path / name)


def test_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "a.jsonl"
    folder.mkdir()
    assert "cannot be read (Is a directory); give a readable .jsonl file" in refusal(folder)


def test_parquet_rows_carry_their_number_across_batches(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    parquet.write_table(pa.Table.from_pylist([{"a": i} for i in range(600)]), path)
    rows = list(file_rows(path))
    assert len(rows) == 600
    assert rows[-1] == LocatedRow(file=str(path), line=600, values={"a": 599})


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "run pip install 'rlsd[data]'" in refusal(tmp_path / "a.parquet")
