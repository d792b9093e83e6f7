"""In the box of the tests: the other end of the solution's channel.

What the solution sends is never trusted: it is a value, an error, or a broken protocol.
"""

from __future__ import annotations

import builtins
import types
from collections.abc import Callable
from typing import Any

from services.verifier.checks.code.boxed.channel import Channel, Frame, PeerGone
from services.verifier.checks.code.boxed.codec import Codec, ProtocolBroken
from services.verifier.checks.code.boxed.remote import Remote, number_of


class SolutionEnded(BaseException):
    """The solution's process has gone, or broke the protocol: no test can pass any more."""


class SolutionLeft(Exception):
    """The solution raised what leaves a program, or what only a test may raise."""


class Solution:
    """The solution's box, as the tests see it."""

    def __init__(self, descriptor: int) -> None:
        self._channel = Channel(descriptor, self._serve)
        self._codec = Codec(self._outgoing, self._incoming)
        self._remotes: dict[int, Any] = {}
        self._mine: dict[int, Any] = {}
        self._exceptions: dict[int, type[BaseException]] = {}
        self.broken = ""
        self.num_calls = 0

    def wait_until_loaded(self) -> None:
        """Raises what the solution raised while it was loaded."""
        self._checked(self._receive)

    def lookup(self, name: str) -> Any:
        """What the solution calls `name`; raises KeyError."""
        answer = self._ask({"do": "lookup", "name": name})
        if "missing" in answer:
            raise KeyError(name)
        return self._decode(answer["value"])

    def call(self, number: int, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function of the solution; lists that it changes are changed here too."""
        self.num_calls += 1
        question = {
            "do": "call",
            "of": number,
            "args": [self._codec.encode(value) for value in arguments],
            "named": {key: self._codec.encode(value) for key, value in named.items()},
        }
        answer = self._ask(question)
        self._copy_back((*arguments, *named.values()), answer.get("changed"))
        return self._decode(answer.get("value"))

    def operate(self, number: int, name: str, *operands: Any) -> Any:
        """An operator, in the solution's box."""
        items = [self._codec.encode(value) for value in operands]
        answer = self._ask({"do": "operate", "of": number, "name": name, "args": items})
        return self._decode(answer.get("value"))

    def get(self, number: int, name: str) -> Any:
        """An attribute."""
        return self._decode(self._ask({"do": "get", "of": number, "name": name}).get("value"))

    def set(self, number: int, name: str, value: Any) -> None:
        """Set an attribute."""
        item = self._codec.encode(value)
        self._ask({"do": "set", "of": number, "name": name, "to": item})

    def next(self, number: int) -> Any:
        """The next of an iterator."""
        answer = self._ask({"do": "next", "of": number})
        if "stop" in answer:
            raise StopIteration
        return self._decode(answer.get("value"))

    def _ask(self, question: Frame) -> Frame:
        return self._checked(lambda: self._channel.ask(question))

    def _receive(self) -> Frame:
        return self._channel.receive()

    def _checked(self, step: Callable[[], Frame]) -> Frame:
        if self.broken:
            raise SolutionEnded(self.broken)
        try:
            answer = step()
        except PeerGone as cause:
            raise self._ended("the solution ended its process") from cause
        except ProtocolBroken as cause:
            raise self._ended(f"the solution sent no answer ({cause})") from cause
        if "raised" in answer:
            raise self._error(answer["raised"])
        return answer

    def _ended(self, why: str) -> SolutionEnded:
        self.broken = why
        return SolutionEnded(why)

    def _decode(self, item: Any) -> Any:
        try:
            return self._codec.decode(item)
        except ProtocolBroken as cause:
            raise self._ended(f"the solution sent {cause}") from cause

    def _copy_back(self, values: tuple[Any, ...], changed: Any) -> None:
        if type(changed) is not list or len(changed) != len(values):
            raise self._ended("the solution sent no answer")
        for value, item in zip(values, changed, strict=True):
            if item is not None and isinstance(value, list | dict | set | bytearray):
                _update(value, self._decode(item))

    def _error(self, raised: Any) -> BaseException:
        try:
            lineage = [(str(name), number) for name, number in raised["lineage"]]
            arguments = self._codec.decode(raised["args"])
            text, number = str(raised["text"]), int(raised["of"])
        except (ProtocolBroken, TypeError, ValueError, KeyError):
            return self._ended("the solution sent no answer")
        kind = self._exception_class(lineage)
        error = kind.__new__(kind, *(arguments if isinstance(arguments, list) else ()))
        if isinstance(error, RemoteError):
            error.__dict__.update(_solution=self, _number=number, _text=text)
        return error

    def _exception_class(self, lineage: list[tuple[str, Any]]) -> type[BaseException]:
        """The class to raise: built-in ones are the tests' own, the others are made here."""
        base: type[BaseException] = Exception
        own: list[tuple[str, int]] = []
        for name, number in lineage:
            if number is None:
                found = getattr(builtins, name, None)
                if isinstance(found, type) and issubclass(found, BaseException):
                    base = found
                    break
            else:
                own.append((name, int(number)))
        if not issubclass(base, Exception):  # SystemExit would end the tests with success
            return SolutionLeft
        for name, number in reversed(own):
            if number not in self._exceptions:
                parents = (base,) if issubclass(base, RemoteError) else (RemoteError, base)
                self._exceptions[number] = type(name, parents, {})
            base = self._exceptions[number]
        return base

    def _outgoing(self, value: Any) -> list[Any]:
        if isinstance(value, Remote):
            return ["yours", number_of(value)]
        if isinstance(value, types.BuiltinFunctionType) and isinstance(
            value.__self__, types.ModuleType
        ):
            return ["function", value.__self__.__name__, value.__name__]
        if isinstance(value, types.ModuleType):
            raise TypeError("a module cannot be passed to the solution")
        self._mine[id(value)] = value
        return ["mine", id(value)]

    def _incoming(self, tag: str, parts: list[Any]) -> Any:
        if tag == "yours" and len(parts) == 1 and parts[0] in self._mine:
            return self._mine[parts[0]]
        if tag != "mine" or len(parts) != 4 or type(parts[0]) is not int:
            raise ProtocolBroken("no value")
        number, name, shape, lineage = parts
        if number in self._remotes:
            return self._remotes[number]
        if lineage:
            made: Any = self._exception_class([(str(n), i) for n, i in lineage])
        elif shape == "coroutine":
            made = self._coroutine(number)
        else:
            made = Remote(self, number, str(name), str(shape))
        if shape != "coroutine":
            self._remotes[number] = made
        return made

    async def _coroutine(self, number: int) -> Any:
        return self.operate(number, "__await__")

    def _serve(self, question: Frame) -> Frame:
        """What the solution may ask: to call what it was given, and its instances' attributes."""
        try:
            value = self._mine[question["of"]]
            result = self._served(question, value)
            return {"value": self._codec.encode(result)}
        except StopIteration:
            return {"stop": True}
        except (PeerGone, ProtocolBroken, KeyError) as cause:
            raise ProtocolBroken("a question that is not allowed") from cause
        except SolutionEnded:
            raise
        except BaseException as error:  # noqa: BLE001 - it is the callback's, and the answer
            return {"raised": [type(error).__name__, str(error)]}

    def _served(self, question: Frame, value: Any) -> Any:
        operands = [self._codec.decode(item) for item in question["args"]]
        named = {str(k): self._codec.decode(v) for k, v in question["named"].items()}
        match question["do"]:
            case "call" if callable(value):
                return value(*operands, **named)
            case "get" if _is_open(value, question["name"]):
                return getattr(value, question["name"])
            case "set" if _is_open(value, question["name"]):
                return setattr(value, question["name"], operands[0])
            case "iter":
                return iter(value)
            case "next":
                return next(value)
            case "len":
                return len(value)
            case "bool":
                return bool(value)
            case "item":
                return value[operands[0]]
        raise AttributeError("not for the solution")


class RemoteError(Exception):
    """An error of a class that the solution defines."""

    def __getattr__(self, name: str) -> Any:
        solution = self.__dict__.get("_solution")
        if solution is None or name.startswith("__"):
            raise AttributeError(name)
        return solution.get(self.__dict__["_number"], name)

    def __str__(self) -> str:
        text = self.__dict__.get("_text")
        return super().__str__() if text is None else str(text)


def _is_open(value: Any, name: str) -> bool:
    """Whether the solution may see an attribute: of instances of the tests' own classes."""
    return type(value).__module__ == "__main__" and not str(name).startswith("_")


def _update(value: Any, new: Any) -> None:
    """Make a value what the solution made of it, in place."""
    if type(new) is not type(value) and not (isinstance(value, dict) and isinstance(new, dict)):
        return
    if isinstance(value, list):
        if len(value) == len(new):
            for number, (old, item) in enumerate(zip(value, new, strict=True)):
                if isinstance(old, list | dict | set) and type(old) is type(item):
                    _update(old, item)
                else:
                    value[number] = item
        else:
            value[:] = new
    elif isinstance(value, bytearray):
        value[:] = new
    else:
        items = dict(new) if isinstance(value, dict) else set(new)
        value.clear()
        value.update(items)
