"""One record: from the JSON object that a user wrote to a `Prompt`.

    {"prompt": str | "messages": [{"role": str, "content": str}, …], "reference": str | number,
     "privileged"?: str, "verifier"?: {"kind": str, "params"?: {…}},
     "id"?: str, "images"?: [str, …]}

Each `<image>` in a user's turn is the place of the next image; without such marks all images stand
before the first user's text (rlsd/images/placing.py).

The only place that decides whether a record is good: every other shape is first written as this
one. A key whose value is null counts as left out: tables have nulls where a row has no value.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from rlsd.images.placing import MARK, num_marks
from rlsd.trajectory import Message, Prompt, VerifierSpec

KEYS = ("prompt", "messages", "reference", "privileged", "verifier", "id", "images")
ROLES = ("system", "user", "assistant")

MAX_PARAMS_DEPTH = 32
"""The wire refuses deeper values."""
MAX_EXACT_INT = 2**53
"""The wire carries numbers of `params` as doubles; a larger whole number would change silently."""


class RecordError(ValueError):
    """One record cannot be used. The message is one line: what is wrong and the remedy."""


def parse_record(values: object, *, default_id: str, default_verifier: str | None) -> Prompt:
    """The prompt that a record describes.

    Whether the verifier kind exists and takes these params is the verifier service's decision.

    Args:
        default_id: of a record without `id`.
        default_verifier: kind for a record without `verifier`.

    Raises:
        RecordError: not an object, a key unknown or missing, a value of the wrong type, text that
            is not Unicode (a lone surrogate), no verifier.
    """
    record = present(_object("a record", values))
    _refuse_unknown("", record, KEYS)
    if "reference" not in record:
        raise RecordError("'reference' is missing; add the answer that completions are checked by")
    messages, images = _messages(record), _images(record.get("images", ()))
    _check_places(messages, images)
    return Prompt(
        id=_text("id", record.get("id", default_id)),
        messages=messages,
        reference=_reference(record["reference"]),
        privileged=_text("privileged", record["privileged"]) if "privileged" in record else None,
        verifier=_verifier(record.get("verifier"), default_verifier),
        images=images,
    )


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that have a value."""
    return {key: value for key, value in values.items() if value is not None}


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` is probably a slip of."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return close[0] if close else None


def shown(value: object) -> str:
    """A value for an error message: short, on one line, safe to print."""
    text = ascii(value if isinstance(value, str | int | float) else type(value).__name__)
    return text if len(text) <= 60 else text[:57] + "..."


def _object(what: str, values: object) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise RecordError(f"{what} must be a JSON object, not {type(values).__name__}")
    return values


def _refuse_unknown(prefix: str, values: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in values:
        if key not in known:
            close = did_you_mean(key, known)
            remedy = f"did you mean {close!r}?" if close else f"known keys: {', '.join(known)}"
            raise RecordError(f"unknown key {shown(prefix + key)}; {remedy}")


def _text(key: str, value: object) -> str:
    if value is None:
        raise RecordError(f"{key!r} is missing; add it")
    if not isinstance(value, str):
        raise RecordError(f"{key!r} must be text, not {type(value).__name__}")
    if not value.strip():
        raise RecordError(f"{key!r} is empty; write it or leave the record out")
    if not _is_unicode(value):
        raise RecordError(f"{key!r} has half of a surrogate pair; write the character in full")
    return value


def _is_unicode(text: str) -> bool:
    """Whether the text can be sent: JSON may spell half of a surrogate pair, UTF-8 cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _messages(record: Mapping[str, Any]) -> tuple[Message, ...]:
    if "prompt" in record and "messages" in record:
        raise RecordError("both 'prompt' and 'messages' are given; keep one")
    if "prompt" in record:
        if isinstance(record["prompt"], list | tuple):
            raise RecordError("'prompt' must be text; give a list of messages as 'messages'")
        return (Message(role="user", content=_text("prompt", record["prompt"])),)
    if "messages" not in record:
        raise RecordError("'prompt' is missing; add it, or a list of chat turns as 'messages'")
    turns = record["messages"]
    if not isinstance(turns, list | tuple) or not turns:
        raise RecordError("'messages' must be a list with at least one message")
    messages = tuple(_message(f"messages[{i}]", turn) for i, turn in enumerate(turns))
    if messages[-1].role != "user":
        raise RecordError(f"the last message must be the user's, not the {messages[-1].role}'s")
    return messages


def _message(where: str, values: object) -> Message:
    turn = present(_object(f"{where!r}", values))
    _refuse_unknown(f"{where}.", turn, ("role", "content"))
    role = turn.get("role")
    if role not in ROLES:
        raise RecordError(f"'{where}.role' must be one of {', '.join(ROLES)}; got {shown(role)}")
    return Message(role=role, content=_text(f"{where}.content", turn.get("content")))


def _reference(value: object) -> str:
    """The reference as text; a whole float (a table's integer column with gaps) as an integer."""
    if isinstance(value, str):
        return _text("reference", value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise RecordError(f"'reference' must be text or a number, not {type(value).__name__}")
    if isinstance(value, int):
        return str(value)
    if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
        raise RecordError(f"'reference' must be a finite number, got {value}")
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(int(value)) if value.is_integer() and abs(value) <= MAX_EXACT_INT else str(value)


def _verifier(values: object, default: str | None) -> VerifierSpec:
    if values is None:
        if default is None:
            raise RecordError("no verifier; add 'verifier': {'kind': ...} or set data.verifier")
        return VerifierSpec(kind=default)
    spec = present(_object("'verifier'", values))
    _refuse_unknown("verifier.", spec, ("kind", "params"))
    kind = _text("verifier.kind", spec.get("kind"))
    params = _object("'verifier.params'", spec.get("params", {}))
    return VerifierSpec(kind=kind, params=_json("verifier.params", present(params)))


def _json(where: str, value: object, depth: int = 0) -> Any:
    """The value as the wire carries it, or an error that names the place within it."""
    if depth > MAX_PARAMS_DEPTH:
        raise RecordError(f"'verifier.params' is nested deeper than {MAX_PARAMS_DEPTH} levels")
    match value:
        case None | bool():
            return value
        case int() if abs(value) > MAX_EXACT_INT:
            raise RecordError(f"'{where}' is too large for a number; write it as text")
        case float() if not math.isfinite(value):
            raise RecordError(f"'{where}' must be a finite number, got {value}")
        case int() | float():
            return value
        case str() if _is_unicode(value):
            return value
        case list() | tuple():
            return [_json(f"{where}[{i}]", item, depth + 1) for i, item in enumerate(value)]
        case Mapping() if all(isinstance(key, str) and _is_unicode(key) for key in value):
            return {k: _json(f"{where}.{k!a}", v, depth + 1) for k, v in value.items()}
    raise RecordError(f"'{where}' must be JSON, got {shown(value)}")


def _images(values: object) -> tuple[str, ...]:
    if not isinstance(values, list | tuple):
        raise RecordError(f"'images' must be a list of paths or URLs, not {type(values).__name__}")
    for image in values:
        if not isinstance(image, str):
            raise RecordError(
                f"'images' must hold paths or URLs, not {type(image).__name__}; "
                "write the pictures to files and give their paths"
            )
    return tuple(_text("images", image) for image in values)


def _check_places(messages: tuple[Message, ...], images: tuple[str, ...]) -> None:
    """Without images a mark is text like any other."""
    places = num_marks(messages)
    if images and places not in (0, len(images)):
        raise RecordError(
            f"{len(images)} images and {places} places {MARK} for them; write as many, or none and "
            "all stand before the first user's text"
        )
