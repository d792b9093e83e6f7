"""Tests that a module defines without calling them: `check`, `unittest`, `test_…`, classes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import unittest
from collections.abc import Callable, Iterator
from typing import Any

from services.verifier.checks.code.boxed.source import TestSource, TestsUnreadable


class Collected:
    """What has to be run after the module itself."""

    def __init__(self) -> None:
        self.steps: list[Callable[[], Any]] = []
        self.cases: list[type[unittest.TestCase]] = []
        self.num_unittests = 0

    def run(self) -> None:
        """Run all; raises what the first failing one raises."""
        for step in self.steps:
            result = step()
            if inspect.iscoroutine(result):
                asyncio.run(result)
        if self.cases:
            self._run_unittests()

    def _run_unittests(self) -> None:
        loader = unittest.defaultTestLoader
        suite = unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in self.cases)
        expected = suite.countTestCases()
        result = unittest.TestResult()
        suite.run(result)
        for test, words in (*result.errors, *result.failures):
            last = words.strip().splitlines()[-1]
            raise AssertionError(f"{test.id().split('.')[-1]}: {last}")
        done = result.testsRun - len(result.skipped)
        if done != expected or result.unexpectedSuccesses or not expected:
            raise AssertionError(f"{done} of {expected} tests were run")
        self.num_unittests = done


def collect(source: TestSource, namespace: dict[str, Any], entry_point: str | None) -> Collected:
    """What the module defines and does not call itself."""
    found = Collected()
    check = namespace.get("check")
    if inspect.isfunction(check) and "check" not in source.called_at_top:
        found.steps.append(_checked(check, namespace, entry_point))
    for name, value in list(namespace.items()):
        if inspect.isclass(value) and issubclass(value, unittest.TestCase):
            if value.__module__ == "__main__":
                found.cases.append(value)
        elif name.startswith("test") and inspect.isfunction(value):
            if name not in source.called_at_top:
                found.steps.extend(_calls(value, namespace, entry_point))
        elif name.startswith("Test") and inspect.isclass(value) and value.__module__ == "__main__":
            for method in [m for m in vars(value) if m.startswith("test")]:
                found.steps.extend(_method_calls(value, method, namespace, entry_point))
    return found


def _checked(
    check: Callable[..., Any], namespace: dict[str, Any], entry_point: str | None
) -> Callable[[], Any]:
    if not inspect.signature(check).parameters:
        return check
    if entry_point is None:
        raise TestsUnreadable("check(candidate) needs entry_point")
    candidate = namespace["candidate"] if "." in entry_point else namespace[entry_point]
    return lambda: check(candidate)


def _method_calls(
    kind: type, name: str, namespace: dict[str, Any], entry_point: str | None
) -> Iterator[Callable[[], Any]]:
    """Each on an instance of its own."""
    function = getattr(kind, name)
    for arguments in _argument_sets(function, namespace, entry_point, skipped=1):

        def call(arguments: dict[str, Any] = arguments) -> Any:
            instance = kind()
            for before in ("setup_method", "setUp"):
                if hasattr(instance, before):
                    method = getattr(instance, before)
                    method(*([None] * len(inspect.signature(method).parameters)))
            return getattr(instance, name)(**arguments)

        yield call


def _calls(
    function: Callable[..., Any], namespace: dict[str, Any], entry_point: str | None
) -> Iterator[Callable[[], Any]]:
    for arguments in _argument_sets(function, namespace, entry_point):
        yield functools.partial(function, **arguments)


def _argument_sets(
    function: Callable[..., Any],
    namespace: dict[str, Any],
    entry_point: str | None,
    *,
    skipped: int = 0,
) -> list[dict[str, Any]]:
    """Arguments for each call: of pytest's `parametrize`, simple fixtures, or the candidate."""
    sets = [
        dict(itertools.chain(*combination)) for combination in itertools.product(*_marked(function))
    ]
    for name, parameter in list(inspect.signature(function).parameters.items())[skipped:]:
        if any(name in arguments for arguments in sets):
            continue
        if parameter.default is not parameter.empty:
            continue
        if name in ("candidate", "func", "fn", "solution") and entry_point:
            value = namespace.get("candidate")
            sets = [{**arguments, name: value} for arguments in sets]
        elif (fixture := _fixture(namespace.get(name))) is not None:
            sets = [{**arguments, name: fixture()} for arguments in sets]
        else:
            raise TestsUnreadable(f"nothing is known for the argument {name} of a test")
    return sets


def _marked(function: Callable[..., Any]) -> list[list[list[tuple[str, Any]]]]:
    """For each `parametrize` mark: its rows as pairs of name and value."""
    marks = []
    for mark in getattr(function, "pytestmark", []):
        if mark.name in ("skip", "skipif", "xfail"):
            raise TestsUnreadable(f"a test is marked {mark.name}")
        if mark.name != "parametrize":
            continue
        names, rows = mark.args[0], mark.args[1]
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        marks.append([_row(names, getattr(row, "values", row)) for row in rows])
    return marks


def _row(names: list[str], row: Any) -> list[tuple[str, Any]]:
    values = row if len(names) > 1 or (isinstance(row, tuple) and len(row) == 1) else (row,)
    return list(zip(names, values, strict=True))


def _fixture(value: Any) -> Callable[[], Any] | None:
    """The function of a fixture that needs nothing itself."""
    function = getattr(value, "_fixture_function", None) or getattr(value, "__wrapped__", None)
    if function is None or inspect.signature(function).parameters:
        return None
    return function  # type: ignore[no-any-return]
