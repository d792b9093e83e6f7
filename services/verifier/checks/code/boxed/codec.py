"""Values as JSON, between the box of the solution and the box of its tests. Never pickle.

Plain data travels by value, by its exact built-in type: of a subclass only the data that the
built-in type itself holds, so that an `__eq__` that always says yes stays where it is. Anything
else travels as a number that stands for it (`Codec.outgoing`, `Codec.incoming`).
"""

from __future__ import annotations

import base64
import builtins
import collections
import datetime
import decimal
import enum
import fractions
import math
import sys
from collections.abc import Callable
from typing import Any, Final

MAX_DEPTH: Final = 400
_SMALL: Final = 1 << 62
_ARRAY_KINDS: Final = "biufcSU"
_DATES: Final = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)


class ProtocolBroken(Exception):
    """The other side sent what no honest one sends."""


class Codec:
    """Encodes and decodes values for one side."""

    def __init__(
        self, outgoing: Callable[[Any], list[Any]], incoming: Callable[[str, list[Any]], Any]
    ) -> None:
        """Take the two functions for what does not travel by value."""
        self._outgoing = outgoing
        self._incoming = incoming

    def encode(self, value: Any, depth: int = 0) -> Any:
        """JSON for a value; raises ValueError when it is nested too deep (or in itself)."""
        if depth > MAX_DEPTH:
            raise ValueError("value is nested too deep")
        kind = type(value)
        if value is None or kind is bool or kind is str or kind is float:
            return value
        if kind is int:
            return value if -_SMALL < value < _SMALL else ["i", hex(value)]
        encoded = self._container(value, kind, depth + 1)
        if encoded is None:
            encoded = _scalar(value, kind)
        if encoded is None:
            encoded = self._subclass(value, kind, depth + 1)
        return self._outgoing(value) if encoded is None else encoded

    def decode(self, item: Any, depth: int = 0) -> Any:
        """The value of JSON; raises ProtocolBroken when it stands for none."""
        if item is None or type(item) in (bool, int, float, str):
            return item
        if type(item) is not list or not item or type(item[0]) is not str or depth > MAX_DEPTH:
            raise ProtocolBroken("no value")
        tag, *parts = item
        try:
            if tag in _SEQUENCES:
                return _SEQUENCES[tag](self.decode(part, depth + 1) for part in parts)
            if tag in _MAPPINGS:
                pairs = [(self.decode(k, depth + 1), self.decode(v, depth + 1)) for k, v in parts]
                return _MAPPINGS[tag](pairs)
            if tag == "nt":
                return self._named_tuple(*parts, depth=depth + 1)
            if tag in _SCALARS:
                return _SCALARS[tag](*parts)
        except (TypeError, ValueError, ArithmeticError, LookupError, ImportError) as cause:
            raise ProtocolBroken(f"no value ({tag})") from cause
        return self._incoming(tag, parts)

    def _container(self, value: Any, kind: type, depth: int) -> list[Any] | None:
        tag = _SEQUENCE_TAGS.get(kind)
        if tag is not None:
            return [tag, *(self.encode(item, depth) for item in kind.__iter__(value))]  # type: ignore[attr-defined]
        tag = _MAPPING_TAGS.get(kind)
        if tag is not None:
            pairs = dict.items(value)
            return [tag, *([self.encode(k, depth), self.encode(v, depth)] for k, v in pairs)]
        return None

    def _subclass(self, value: Any, kind: type, depth: int) -> Any:
        """The data that a built-in base holds, read by the base's own methods."""
        if isinstance(kind, enum.EnumMeta) or not issubclass(kind, _BASES):
            return None
        if issubclass(kind, int):
            return self.encode(int.__add__(value, 0), depth)
        if issubclass(kind, float):
            return self.encode(float.__add__(value, 0.0), depth)
        if issubclass(kind, str):
            return self.encode("".join(str.__iter__(value)), depth)
        if issubclass(kind, bytes):
            return self.encode(bytes(bytes.__iter__(value)), depth)
        if issubclass(kind, dict):
            return self.encode(dict(dict.items(value)), depth)
        if issubclass(kind, tuple):
            data = tuple(tuple.__iter__(value))
            fields = getattr(kind, "_fields", None)
            if type(fields) is tuple and len(fields) == len(data):
                items = [self.encode(item, depth) for item in data]
                return ["nt", kind.__name__, [str(field) for field in fields], items]
            return self.encode(data, depth)
        base = next(base for base in (list, set, frozenset) if issubclass(kind, base))
        return self.encode(base(base.__iter__(value)), depth)

    def _named_tuple(self, name: str, fields: list[str], items: list[Any], *, depth: int) -> Any:
        kind = collections.namedtuple(name, fields)  # type: ignore[misc]
        return kind(*(self.decode(item, depth) for item in items))


_BASES: Final = (int, float, str, bytes, dict, tuple, list, set, frozenset)
_SEQUENCES: Final[dict[str, Any]] = {"l": list, "t": tuple, "s": set, "fs": frozenset}
_SEQUENCE_TAGS: Final = {kind: tag for tag, kind in _SEQUENCES.items()}


def _default_dict(pairs: list[tuple[Any, Any]]) -> Any:
    return collections.defaultdict(None, pairs)


def _counter(pairs: list[tuple[Any, Any]]) -> Any:
    return collections.Counter(dict(pairs))


_MAPPINGS: Final[dict[str, Callable[[list[tuple[Any, Any]]], Any]]] = {
    "d": dict,
    "od": collections.OrderedDict,
    "dd": _default_dict,
    "ct": _counter,
}
_MAPPING_TAGS: Final[dict[type, str]] = {
    dict: "d",
    collections.OrderedDict: "od",
    collections.defaultdict: "dd",
    collections.Counter: "ct",
}


def _scalar(value: Any, kind: type) -> list[Any] | None:
    """Values without parts."""
    if kind in (bytes, bytearray):
        return ["b" if kind is bytes else "ba", base64.b64encode(value).decode()]
    if kind is complex:
        return ["c", value.real, value.imag]
    if kind is range:
        return ["r", value.start, value.stop, value.step]
    if kind is slice:
        return ["sl", value.start, value.stop, value.step] if _is_plain_slice(value) else None
    if kind is decimal.Decimal:
        return ["D", str(value)]
    if kind is fractions.Fraction:
        return ["F", str(value.numerator), str(value.denominator)]
    if kind is datetime.timedelta:
        return ["td", value.days, value.seconds, value.microseconds]
    if kind in _DATES and getattr(value, "tzinfo", None) is None:
        return ["dt", kind.__name__, value.isoformat()]
    return _builtin_name(value) or _array(value, kind)


def _builtin_name(value: Any) -> list[Any] | None:
    """Of a built-in type, and of the two values that have a name."""
    if value is NotImplemented or value is Ellipsis:
        return ["bt", "NotImplemented" if value is NotImplemented else "Ellipsis"]
    name = str(getattr(value, "__name__", "")) if isinstance(value, type) else ""
    return ["bt", name] if name and getattr(builtins, name, None) is value else None


def _is_plain_slice(value: slice) -> bool:
    return all(part is None or type(part) is int for part in (value.start, value.stop, value.step))


def _array(value: Any, kind: type) -> Any:
    """NumPy's arrays and numbers, where the program has imported it."""
    numpy = sys.modules.get("numpy")
    if numpy is None or kind.__module__ != "numpy":
        return None
    if isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.kind in _ARRAY_KINDS:
        data = base64.b64encode(numpy.ascontiguousarray(value).tobytes()).decode()
        return ["np", value.dtype.str, [int(n) for n in value.shape], data]
    return None


def _read_array(dtype: str, shape: list[int], data: str) -> Any:
    import numpy

    if numpy.dtype(dtype).kind not in _ARRAY_KINDS:
        raise ValueError(dtype)
    flat = numpy.frombuffer(base64.b64decode(data), dtype=dtype)
    array = flat.reshape([int(n) for n in shape]).copy()
    return array if shape else array[()]


def _date(name: str, text: str) -> Any:
    known = {kind.__name__: kind for kind in _DATES[:3]}
    return known[name].fromisoformat(text)


def _builtin(name: str) -> Any:
    value = getattr(builtins, name)
    if not isinstance(value, type) and value not in (NotImplemented, Ellipsis):
        raise ValueError(name)
    return value


_SCALARS: Final[dict[str, Callable[..., Any]]] = {
    "i": lambda text: int(text, 16),
    "b": base64.b64decode,
    "ba": lambda text: bytearray(base64.b64decode(text)),
    "c": complex,
    "r": range,
    "sl": slice,
    "D": decimal.Decimal,
    "F": lambda n, d: fractions.Fraction(int(n), int(d)),
    "td": datetime.timedelta,
    "dt": _date,
    "bt": _builtin,
    "np": _read_array,
}


def alike(found: Any, expected: Any) -> bool:
    """Whether a result equals what JSON could say of it: tuples are lists, numbers are numbers.

    Floats may differ by a relative 1e-9.
    """
    if isinstance(found, bool) or isinstance(expected, bool):
        return isinstance(found, bool) and isinstance(expected, bool) and found == expected
    if isinstance(found, float) and isinstance(expected, int | float):
        same_nan = found != found and expected != expected
        return same_nan or math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(found, int) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        keyed = {k if isinstance(k, str) else str(k): v for k, v in found.items()}
        same = len(keyed) == len(found) and keyed.keys() == {str(k) for k in expected}
        return same and all(alike(keyed[str(k)], v) for k, v in expected.items())
    if isinstance(found, set | frozenset) and isinstance(expected, list):
        return len(found) == len(expected) and all(item in found for item in expected)
    return type(found) is type(expected) and bool(found == expected)
