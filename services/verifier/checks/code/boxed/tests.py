"""The box of the tests: runs them against the solution in the other box, and reports.

The report goes to a file that only this process has open.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import json
import os
import sys
import traceback
import types
from typing import Any, Final

from services.verifier.checks.code.boxed import program
from services.verifier.checks.code.boxed.codec import alike
from services.verifier.checks.code.boxed.collect import Collected, collect
from services.verifier.checks.code.boxed.peer import Solution, SolutionEnded
from services.verifier.checks.code.boxed.remote import Remote
from services.verifier.checks.code.boxed.source import COUNT, TestSource, TestsUnreadable

starts_programs = False
FILE_NAME = "tests.py"
_CONVENTIONS: Final = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "sp": "scipy"}
_PRELUDE: Final = ("typing", "collections")
_SOLUTION_MODULES: Final = ("solution", "main", "answer")


def run(payload: int, channels: list[int]) -> None:
    """Run the tests of the payload."""
    order = program.read_payload(payload)
    program.open_streams()
    program.main_module()
    channel, report = channels
    finding, words = _judge(order, Solution(channel))
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os.write(report, json.dumps({"finding": finding, "words": words[:300]}).encode())
    os._exit(0)


def _judge(order: dict[str, Any], solution: Solution) -> tuple[str, str]:
    try:
        source = None if "cases" in order else TestSource(order["code"])
    except TestsUnreadable as cause:
        return "invalid", str(cause)
    try:
        solution.wait_until_loaded()
        if source is None:
            return _run_cases(order, solution)
        return _run_source(source, order["entry_point"], solution)
    except SolutionEnded as cause:
        return "fail", str(cause)
    except TestsUnreadable as cause:
        return "invalid", str(cause)
    except BaseException as error:  # noqa: BLE001 - a test that fails, however it does
        return "fail", solution.broken or _words(error)


def _run_cases(order: dict[str, Any], solution: Solution) -> tuple[str, str]:
    try:
        function = solution.lookup(order["entry_point"])
    except KeyError:
        return "fail", f"no {order['entry_point']} in the answer"
    for number, case in enumerate(order["cases"], start=1):
        result = function(*case["args"], **case["kwargs"])
        if not alike(_listed(result), case["expected"]):
            return "fail", f"case {number}: another result"
    return ("fail", solution.broken) if solution.broken else ("pass", "")


def _listed(result: Any) -> Any:
    """What an iterator gives; other objects of the solution equal nothing."""
    return list(result) if isinstance(result, Remote) and hasattr(result, "__next__") else result


def _run_source(source: TestSource, entry_point: str | None, solution: Solution) -> tuple[str, str]:
    module = types.ModuleType("__main__")
    module.__file__ = FILE_NAME
    sys.modules["__main__"] = module
    counted = [0]

    def count() -> None:
        counted[0] += 1

    namespace = module.__dict__
    namespace[COUNT] = count
    missing = _bind(source, entry_point, namespace, solution)
    if missing:
        return "fail", f"no {missing} in the answer"
    _offer_as_module(solution)
    _run_module(source, namespace)
    collected = collect(source, namespace, entry_point)
    collected.run()
    if solution.broken:
        return "fail", solution.broken
    if counted[0] == 0 and (
        source.num_asserts or not _checks_otherwise(source, collected, solution)
    ):
        return "fail", "no assert was reached"
    return "pass", ""


def _checks_otherwise(source: TestSource, collected: Collected, solution: Solution) -> bool:
    """Whether tests without a reached `assert` did check something."""
    return solution.num_calls > 0 and (source.raises or collected.num_unittests > 0)


def _run_module(source: TestSource, namespace: dict[str, Any]) -> None:
    try:
        exec(source.code, namespace)
    except SystemExit as leaving:
        if leaving.code not in (None, 0):
            raise
    except ModuleNotFoundError as error:
        raise TestsUnreadable(f"the tests need the module {error.name}") from error


def _bind(
    source: TestSource, entry_point: str | None, namespace: dict[str, Any], solution: Solution
) -> str:
    """Give the tests the names that they do not define; the name of what is lacking, or none."""
    if entry_point:
        try:
            found = solution.lookup(entry_point)
        except KeyError:
            return entry_point
        if "." not in entry_point:
            namespace[entry_point] = found
        namespace.setdefault("candidate", found)
    for name in source.wanted - set(namespace) - set(dir(builtins)):
        ready = _known(name)
        if ready is None:
            try:
                ready = solution.lookup(name)
            except KeyError:
                continue
        namespace[name] = ready
    return ""


def _known(name: str) -> Any:
    """What a name means everywhere: a module, or a part of `typing` and `collections`."""
    module = _CONVENTIONS.get(name, name)
    if module in sys.stdlib_module_names or name in _CONVENTIONS:
        try:
            return importlib.import_module(module)
        except ImportError:
            return None
    for prelude in map(importlib.import_module, _PRELUDE):
        if name in prelude.__all__:
            return getattr(prelude, name)
    return None


def _offer_as_module(solution: Solution) -> None:
    """`from solution import …` finds what the answer defines."""
    for name in _SOLUTION_MODULES:
        module = types.ModuleType(name)

        def look(wanted: str) -> Any:
            try:
                return solution.lookup(wanted)
            except KeyError:
                raise AttributeError(wanted) from None

        module.__getattr__ = look  # type: ignore[method-assign]
        sys.modules[name] = module


def _words(error: BaseException) -> str:
    """The kind of failure and the line of the test where it happened."""
    line = next(
        (
            frame.line
            for frame in reversed(traceback.extract_tb(error.__traceback__))
            if frame.filename == FILE_NAME
        ),
        "",
    )
    return f"{type(error).__name__}: {line} {error}"
