"""The shapes in which others write their records, rewritten as ours. Pure.

A converter renames and cuts out; `records.parse_record` decides whether the result is a good
record. Columns that a foreign shape has beside those it is known by are left out without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, assert_never

from rlsd.data.records import KEYS, RecordError, did_you_mean, present, shown
from rlsd.images.placing import MARK

Row = Mapping[str, Any]


class Shape(StrEnum):
    """How a record is written."""

    RLSD = "rlsd"
    """Ours, `records.py`."""
    GSM8K = "gsm8k"
    """`question`, and `answer`: a solution that ends in `#### 42`."""
    VERL = "verl"
    """`prompt` as messages, `reward_model.ground_truth`, `data_source`, `extra_info`."""
    TRL = "trl"
    """`prompt` as text or messages, and one of `answer`, `ground_truth`, `solution`."""


COLUMNS = {
    Shape.RLSD: "prompt or messages, reference",
    Shape.GSM8K: "question, answer",
    Shape.VERL: "prompt, reward_model",
    Shape.TRL: "prompt, and answer or ground_truth or solution",
}
"""What tells a shape from the others, for people."""

TRL_REFERENCES = ("ground_truth", "answer", "solution")
"""The first of these with a value is the reference: from bare answer to worked solution."""

VERL_MATHS = frozenset(
    {
        "openai/gsm8k",
        "lighteval/MATH",
        "DigitalLearningGmbH/MATH-lighteval",
        "HuggingFaceH4/MATH-500",
        "math_dapo",
        "numina_aops_forum",
        "numina_synthetic_math",
        "numina_amc_aime",
        "numina_synthetic_amc",
        "numina_cn_k12",
        "numina_olympiads",
    }
)
"""Values of `data_source` (and all that start with `aime`) which verl checks as mathematics."""

_FINAL_NUMBER = re.compile(r"####[ \t]*\$?[ \t]*([-+]?[\d,]*\.?\d+)[.%]?\s*\Z")
_CALCULATOR = re.compile(r"<<[^<>]*=[^<>]*>>")


def shape_of(row: Row) -> Shape:
    """The one shape that the columns with a value fit.

    Raises:
        RecordError: no shape fits or several do; the message names the columns and the shapes.
    """
    columns = present(row)
    fitting = [shape for shape in Shape if _fits(columns, shape)]
    if len(fitting) == 1:
        return fitting[0]
    known = "; ".join(f"{shape} ({COLUMNS[shape]})" for shape in fitting or Shape)
    found = f"columns {', '.join(shown(c) for c in list(columns)[:12]) or '(none)'}"
    if fitting:
        raise RecordError(f"{found} fit several shapes: {known}; set data.shape to one of them")
    raise RecordError(f"{found} fit no shape{_slip(columns)}; known shapes: {known}")


def to_record(row: Row, shape: Shape) -> Row:
    """The row in our own shape.

    Raises:
        RecordError: a column that the conversion reads is missing or not as the shape has it.
    """
    match shape:
        case Shape.RLSD:
            return row
        case Shape.GSM8K:
            return _from_gsm8k(present(row))
        case Shape.VERL:
            return _from_verl(present(row))
        case Shape.TRL:
            return _from_trl(present(row))
    assert_never(shape)


def usual_verifier(row: Row, shape: Shape) -> str | None:
    """The verifier kind that a row implies; None when only the user can tell.

    GSM8K is mathematics, and so are the sources that verl itself checks as such.
    """
    match shape:
        case Shape.GSM8K:
            return "math"
        case Shape.VERL:
            source = row.get("data_source")
            is_maths = isinstance(source, str) and (
                source in VERL_MATHS or source.startswith("aime")
            )
            return "math" if is_maths else None
        case Shape.RLSD | Shape.TRL:
            return None
    assert_never(shape)


def _fits(columns: Row, shape: Shape) -> bool:
    match shape:
        case Shape.RLSD:
            return "reference" in columns
        case Shape.GSM8K:
            return "question" in columns and "answer" in columns
        case Shape.VERL:
            return "reward_model" in columns
        case Shape.TRL:
            return "prompt" in columns and any(c in columns for c in TRL_REFERENCES)
    assert_never(shape)


def _slip(columns: Iterable[str]) -> str:
    """A guess at the slip that keeps a row from fitting a shape."""
    known = (*KEYS, "question", "reward_model", *TRL_REFERENCES)
    for column in columns:
        close = None if column in known else did_you_mean(column, known)
        if close:
            return f"; {shown(column)}: did you mean {close!r}?"
    return ""


def _from_gsm8k(row: Row) -> Row:
    """The reference is the number after `####`, without thousands separators.

    The teacher reads the whole solution; the calculator marks `<<48/2=24>>` are cut out of it.
    """
    solution = _column(row, "answer", str)
    number = _FINAL_NUMBER.search(solution)
    if number is None:
        raise RecordError("'answer' does not end in '#### <number>'; add it or set data.shape")
    return {
        "prompt": _column(row, "question", str),
        "reference": number[1].replace(",", ""),
        "privileged": _CALCULATOR.sub("", solution),
    }


def _from_verl(row: Row) -> Row:
    """The teacher reads `extra_info.answer` or `.solution` where the row has one."""
    reward_model = present(_column(row, "reward_model", Mapping))
    if "ground_truth" not in reward_model:
        raise RecordError("'reward_model.ground_truth' is missing; add the reference answer")
    record = _asked(row) | {"reference": reward_model["ground_truth"]}
    extra_info = row.get("extra_info")
    if isinstance(extra_info, Mapping):
        solution = extra_info.get("answer") or extra_info.get("solution")
        if isinstance(solution, str):
            record["privileged"] = solution
    return record


def _from_trl(row: Row) -> Row:
    """The teacher reads `solution` where another column is the reference."""
    chosen = next((name for name in TRL_REFERENCES if name in row), None)
    if chosen is None:
        raise RecordError(f"no reference; add one of the columns {', '.join(TRL_REFERENCES)}")
    record = _asked(row) | {"reference": row[chosen]}
    if chosen != "solution" and "solution" in row:
        record["privileged"] = row["solution"]
    return record


def _asked(row: Row) -> dict[str, Any]:
    """Prompt (text or messages) and images."""
    asked = _column(row, "prompt", str | list | tuple)
    record: dict[str, Any] = (
        {"prompt": asked} if isinstance(asked, str) else {"messages": [_turn(t) for t in asked]}
    )
    if "images" in row:
        record["images"] = row["images"]
    elif "image" in row:
        record["images"] = [row["image"]]
    if isinstance(images := record.get("images"), list | tuple):
        record["images"] = [_by_path(image) for image in images]
    return record


def _turn(turn: Any) -> Any:
    """A turn whose content is a list of parts (text, image) with its content as marked text."""
    if not isinstance(turn, Mapping) or not isinstance(turn.get("content"), list | tuple):
        return turn
    return {**turn, "content": "".join(_part(part) for part in turn["content"])}


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "image":
        return MARK
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise RecordError(f"a part of a message is {shown(kind)}; only text and image are known")


def _by_path(image: Any) -> Any:
    """An image of a table that was stored by its path alone; others as they are."""
    if isinstance(image, Mapping) and not image.get("bytes"):
        return image.get("path") or image.get("image") or image
    return image


def _column(row: Row, name: str, kind: Any) -> Any:
    if name not in row:
        raise RecordError(f"column {name!r} is missing; add it or set data.shape")
    if not isinstance(row[name], kind):
        raise RecordError(f"column {name!r} is {type(row[name]).__name__}; wrong for this shape")
    return row[name]
