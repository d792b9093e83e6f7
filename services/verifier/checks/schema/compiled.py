"""Validators by jsonschema-rs, for the service and for its children alike.

Nothing is ever fetched: a reference to another document makes the schema invalid, the drafts' own
meta-schemas apart.
"""

from __future__ import annotations

from typing import Any, Literal, NoReturn

import jsonschema_rs

Draft = Literal["2020-12", "2019-09", "7", "6", "4"]

_DRAFTS: dict[Draft, type[jsonschema_rs.Validator]] = {
    "2020-12": jsonschema_rs.Draft202012Validator,
    "2019-09": jsonschema_rs.Draft201909Validator,
    "7": jsonschema_rs.Draft7Validator,
    "6": jsonschema_rs.Draft6Validator,
    "4": jsonschema_rs.Draft4Validator,
}
_LONGEST_PATH = 80


class WrongSchema(Exception):
    """The schema is none; the message says why."""


class Compiled:
    """A schema, ready to judge values."""

    def __init__(self, schema: Any, *, draft: Draft, formats: bool, is_linear: bool) -> None:
        """Compile.

        Args:
            draft: holds where the schema does not name its own with `$schema`.
            formats: whether `format` is asserted; else it says nothing about validity.
            is_linear: patterns that could backtrack are refused.

        Raises:
            WrongSchema: not a schema of its draft, a bad pattern, or a reference that leads away.
        """
        options: dict[str, Any] = {"retriever": _refuse, "validate_formats": formats}
        if is_linear:
            options["pattern_options"] = jsonschema_rs.RegexOptions()
        try:
            if isinstance(schema, dict) and "$schema" in schema:
                self._validator = jsonschema_rs.validator_for(schema, **options)
            else:
                self._validator = _DRAFTS[draft](schema, **options)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as cause:
            raise WrongSchema(_first_line(cause)) from cause

    def fault(self, value: Any) -> str | None:
        """Where and by which keyword a value fails; None when it is valid."""
        if self._validator.is_valid(value):
            return None
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            path = "/".join(str(part) for part in error.instance_path)[:_LONGEST_PATH]
            return f"{error.kind.name} at /{path}"
        return "invalid"


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"reference to {uri[:80]!r}: other documents are never fetched")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
