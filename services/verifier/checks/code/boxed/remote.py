"""In the box of the tests: what stands for the solution's functions, classes and objects.

What the solution sends is never trusted. A comparison with a value that the test knows would tell
the solution that value and let it answer; so it is only asked about objects that the test itself
made of the solution's classes, and an object that equals anything equals nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Solution(Protocol):
    """What is asked of the other end of the channel, by an object's number."""

    def call(self, number: int, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call it."""
        ...

    def operate(self, number: int, name: str, *operands: Any) -> Any:
        """An operator."""
        ...

    def get(self, number: int, name: str) -> Any:
        """An attribute."""
        ...

    def set(self, number: int, name: str, value: Any) -> None:
        """Set an attribute."""
        ...

    def next(self, number: int) -> Any:
        """The next of an iterator."""
        ...


class Remote:
    """An object of the solution."""

    def __init__(self, solution: Solution, number: int, name: str, shape: str) -> None:
        object.__setattr__(self, "_facts", (solution, number, name, shape))
        object.__setattr__(self, "_made_by_test", False)

    @property
    def __name__(self) -> str:
        """Of a function or class; of an object, its class's."""
        return str(
            _facts(self)[2]
            if _facts(self)[3] == "object"
            else _solution(self).get(number_of(self), "__name__")
        )

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it; of a class, an instance that the test made."""
        result = _solution(self).call(number_of(self), arguments, named)
        if _facts(self)[3] == "class" and isinstance(result, Remote):
            object.__setattr__(result, "_made_by_test", True)
        return result

    def __getattr__(self, name: str) -> Any:
        return _solution(self).get(number_of(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        _solution(self).set(number_of(self), name, value)

    def __eq__(self, other: object) -> bool:
        if other is self:
            return True
        return _agreed(self, other, "__eq__")

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        if _is_trusted(self):
            return int(_expected(_solution(self).operate(number_of(self), "__hash__"), int))
        return hash(number_of(self))

    def __iter__(self) -> Any:
        iterator = _solution(self).operate(number_of(self), "__iter__")
        return _Iterator(iterator) if isinstance(iterator, Remote) else iter(iterator)

    def __next__(self) -> Any:
        return _solution(self).next(number_of(self))

    def __contains__(self, item: object) -> bool:
        if _is_trusted(self):
            return bool(_operate(self, "__contains__", item, kind=bool))
        return any(found == item for found in self)

    def __getitem__(self, key: Any) -> Any:
        return _operate(self, "__getitem__", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _operate(self, "__setitem__", key, value)

    def __delitem__(self, key: Any) -> None:
        _operate(self, "__delitem__", key)

    def __str__(self) -> str:
        return str(_operate(self, "__str__", kind=str))

    def __repr__(self) -> str:
        return str(_operate(self, "__repr__", kind=str))

    def __format__(self, how: str) -> str:
        return str(_operate(self, "__format__", how, kind=str))

    def __bool__(self) -> bool:
        return bool(_operate(self, "__bool__", kind=bool))

    def __len__(self) -> int:
        return int(_operate(self, "__len__", kind=int))

    def __int__(self) -> int:
        return int(_operate(self, "__int__", kind=int))

    def __float__(self) -> float:
        return float(_operate(self, "__float__", kind=float))

    def __index__(self) -> int:
        return int(_operate(self, "__index__", kind=int))

    def __round__(self, *digits: int) -> Any:
        return _operate(self, "__round__", *digits)

    def __reversed__(self) -> Any:
        return iter(_operate(self, "__reversed__"))

    def __enter__(self) -> Any:
        return _operate(self, "__enter__")

    def __exit__(self, *error: Any) -> Any:
        return _operate(self, "__exit__", None, None, None)

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and bool(_operate(self, "__instancecheck__", value))

    def __subclasscheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and bool(_operate(self, "__subclasscheck__", value))


def _arithmetic(name: str) -> Callable[..., Any]:
    def forwarded(self: Remote, *operands: Any) -> Any:
        if not _is_trusted(self):
            return NotImplemented
        result = _operate(self, name, *operands)
        if isinstance(result, Remote):
            object.__setattr__(result, "_made_by_test", True)
        return result

    return forwarded


for _name in (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "divmod"),
    *("and", "or", "xor", "lshift", "rshift", "neg", "pos", "abs", "invert"),
    *("lt", "le", "gt", "ge"),
):
    setattr(Remote, f"__{_name}__", _arithmetic(f"__{_name}__"))


class _Iterator:
    """Walks through an iterator of the solution."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._remote)


def _agreed(left: Remote, right: object, name: str) -> bool:
    """Equality as the solution's class has it, unless that class says yes to anything."""
    if not _is_trusted(left):
        if not (isinstance(right, Remote) and _is_trusted(right)):
            return False
        left, right = right, left
    if not _operate(left, name, right, kind=bool):
        return False
    return not _operate(left, name, secrets.token_hex(8), kind=bool)


def _operate(remote: Remote, name: str, *operands: Any, kind: type | None = None) -> Any:
    result = _solution(remote).operate(number_of(remote), name, *operands)
    if kind is bool and result is NotImplemented:
        return False
    return result if kind is None else _expected(result, kind)


def _expected(result: Any, kind: type) -> Any:
    if type(result) is not kind:
        raise TypeError(f"the solution's object gives no {kind.__name__}")
    return result


def _facts(remote: Remote) -> tuple[Solution, int, str, str]:
    facts: tuple[Solution, int, str, str] = object.__getattribute__(remote, "_facts")
    return facts


def _solution(remote: Remote) -> Solution:
    return _facts(remote)[0]


def number_of(remote: Remote) -> int:
    """What stands for the object in the solution's box."""
    return _facts(remote)[1]


def _is_trusted(remote: Remote) -> bool:
    return bool(object.__getattribute__(remote, "_made_by_test"))
